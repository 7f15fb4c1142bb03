"""One line per event on standard error: `time level event key=value…`, escaped, cut and never a flood.

Strangers' text reaches the log inside quotes and without line breaks or escape codes.
"""

import logging
import sys
import time

_FIELD = 500  # characters of a message that are kept
_PER_SECOND = 20  # lines of one event (its message before formatting) per second; the rest is counted


class LineFormatter(logging.Formatter):
    """Every record on one line; an exception as its type, words and where it was raised."""

    def __init__(self, tags: str) -> None:
        super().__init__()
        self._tags = tags

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = f"{at}.{int(record.msecs):03d}Z {record.levelname.lower()} {self._tags} msg={quote(record.getMessage())}"
        if record.exc_info and (error := record.exc_info[1]) is not None:
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            where = f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace is not None else "unknown"
            line += f" error={quote(f'{type(error).__name__}: {error}')} where={quote(where)}"
        return line


class FloodFilter(logging.Filter):
    """Lets `_PER_SECOND` lines of one event through per second and says how many it held back."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, tuple[int, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        event, second = str(record.msg), int(record.created)
        began, count = self._seen.get(event, (second, 0))
        if began != second:
            if count > _PER_SECOND:
                record.msg = f"{record.msg} (and {count - _PER_SECOND} more like it before)"
            began, count = second, 0
        self._seen[event] = (began, count + 1)
        return count < _PER_SECOND


def quote(text: str) -> str:
    """Text from anywhere as one quoted field."""
    if len(text) > _FIELD:
        text = text[:_FIELD] + "…"
    escaped = text.encode("unicode_escape").decode().replace('"', '\\"')
    return f'"{escaped}"'


def configure(tags: str) -> None:
    """Send this process' log to standard error; `tags` is on every line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(tags))
    handler.addFilter(FloodFilter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
