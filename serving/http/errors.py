"""From the error tree to HTTP and gRPC: the one table of status codes each, for all protocols over it."""

from contracts.errors import (
    Conflict,
    DeadlineExceeded,
    Internal,
    InvalidInput,
    NotFound,
    Overloaded,
    Quarantined,
    TealError,
    TooLarge,
    Unavailable,
    Unsupported,
    UnsupportedMedia,
)
from contracts.metrics import Outcome

_STATUS: dict[type[TealError], int] = {
    InvalidInput: 400,
    NotFound: 404,
    Conflict: 409,
    TooLarge: 413,
    UnsupportedMedia: 415,
    Quarantined: 422,
    Internal: 500,
    Unsupported: 501,
    Unavailable: 503,
    DeadlineExceeded: 504,
}

# https://grpc.io/docs/guides/status-codes: invalid argument, deadline exceeded, not found, resource exhausted, failed
# precondition, unimplemented, internal, unavailable. TensorFlow Serving and Triton use the same words.
_GRPC_STATUS: dict[type[TealError], int] = {
    InvalidInput: 3,
    DeadlineExceeded: 4,
    NotFound: 5,
    TooLarge: 8,
    Conflict: 9,
    Unsupported: 12,
    UnsupportedMedia: 12,
    Internal: 13,
    Unavailable: 14,
}

_REASONS: tuple[tuple[type[TealError], str], ...] = (
    (Quarantined, "quarantined"),
    (InvalidInput, "invalid"),
    (UnsupportedMedia, "invalid"),
    (TooLarge, "too_large"),
    (Overloaded, "queue_full"),
    (Unavailable, "draining"),
    (DeadlineExceeded, "expired"),
)


def status_of(error: TealError) -> int:
    """The status of the nearest ancestor in the table; 500 for an error that nobody put there."""
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)


def grpc_status_of(error: TealError) -> int:
    """The code of the nearest ancestor in the table; 13, internal, for an error that nobody put there."""
    return next((_GRPC_STATUS[kind] for kind in type(error).__mro__ if kind in _GRPC_STATUS), 13)


def outcome_of(status: int) -> Outcome:
    if status < 400:
        return Outcome.OK
    if status < 500 or status == 501:
        return Outcome.CLIENT_ERROR
    return {503: Outcome.OVERLOAD, 504: Outcome.TIMEOUT}.get(status, Outcome.SERVER_ERROR)


def rejected_reason(error: TealError) -> str | None:
    """Which of REJECTED_REASONS an error before compute counts as; None for what is no refusal of a request."""
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), None)
