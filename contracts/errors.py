"""The error tree every package raises from, so that one table per transport maps it to status codes.

    TealError
    ├── InvalidInput         the caller sent something that does not fit          (400)
    │   ├── UnknownLabel     a label nobody set; TensorFlow Serving answers 400   (400)
    │   └── Quarantined      this very input has ended the model's process before (422)
    ├── NotFound             a name, version or path that does not exist          (404)
    ├── Conflict             what was asked contradicts the present state         (409)
    │   └── Stale            the state is no longer the one that was looked at    (409, of If-Match 412)
    ├── TooLarge             a body over its limit                                (413)
    ├── UnsupportedMedia     a content type or encoding nobody here reads         (415)
    ├── Unsupported          a thing the protocol allows and this model cannot    (501)
    ├── Unavailable          nobody can serve this now, try again                 (503)
    │   └── Overloaded       the queue is full                                    (503)
    ├── DeadlineExceeded     the caller's time is over                            (504)
    └── Internal             our fault; the sentence says what is known           (500)

The sentence names the thing, what was expected, what came and what to do next. It never holds a path
of this machine, a traceback or a model's internals when it is meant for callers of predictions.
"""


class TealError(Exception):
    """Base of every error Teal raises on purpose. `code` is stable, the sentence is not."""

    code = "internal"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidInput(TealError):
    code = "invalid_input"


class UnknownLabel(InvalidInput):
    code = "unknown_label"


class Quarantined(InvalidInput):
    code = "quarantined"


class NotFound(TealError):
    code = "not_found"


class Conflict(TealError):
    code = "conflict"


class Stale(Conflict):
    code = "stale"


class TooLarge(TealError):
    code = "too_large"


class UnsupportedMedia(TealError):
    code = "unsupported_media"


class Unsupported(TealError):
    code = "unsupported"


class Unavailable(TealError):
    """Nobody can answer now. `retry_after` is in seconds and becomes the Retry-After header."""

    code = "unavailable"

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Overloaded(Unavailable):
    code = "overloaded"


class DeadlineExceeded(TealError):
    code = "deadline_exceeded"


class Internal(TealError):
    code = "internal"
