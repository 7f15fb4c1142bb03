"""One line per event, whatever strangers put into it."""

import logging

from serving.log import FloodFilter, LineFormatter, quote


def record(message: str, *args: object, at: float = 1000.0) -> logging.LogRecord:
    made = logging.LogRecord("x", logging.ERROR, "/secret/file.py", 1, message, args, None)
    made.created = at
    return made


def test_line_breaks_and_escape_codes_stay_inside_their_quotes() -> None:
    line = LineFormatter("model=m").format(record("bad %s", 'name\n"\x1b[31m'))
    assert "\n" not in line
    assert "\x1b" not in line
    assert line.endswith('error model=m msg="bad name\\n\\"\\x1b[31m"')


def test_endless_text_is_cut() -> None:
    assert len(quote("x" * 10**6)) < 600


def test_an_exception_is_one_line_without_paths() -> None:
    made = record("failed")
    try:
        int("a\nb")
    except ValueError as error:
        made.exc_info = (type(error), error, error.__traceback__)
    line = LineFormatter("model=m").format(made)
    assert 'error="ValueError: invalid literal' in line
    assert "/" not in line.split("msg=")[1]
    assert "\n" not in line


def test_a_flood_of_one_event_is_cut_and_counted_and_hides_no_other() -> None:
    flood = FloodFilter()
    assert sum(flood.filter(record("again %d", i)) for i in range(100)) == 20
    assert flood.filter(record("something else"))
    later = record("again %d", 7, at=1001.0)
    assert flood.filter(later)
    assert "80 more" in later.getMessage()
