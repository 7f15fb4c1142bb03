"""What people hand to `teal predict`, and what reaches the gateway."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.predict import request_body
from tests.deploy.cli.conftest import Teal
from tests.deploy.cli.fake_gateway import FakeGateway


@pytest.mark.parametrize(
    ("given", "rank", "sent"),
    [
        ([[1, 2], [3, 4]], 2, {"instances": [[1, 2], [3, 4]]}),
        ([1, 2], 2, {"instances": [[1, 2]]}),
        ([[1, 2]], 3, {"instances": [[[1, 2]]]}),
        ([1, 2], 1, {"instances": [1, 2]}),
        ([1, 2], None, {"instances": [1, 2]}),
        ({"instances": [1]}, 2, {"instances": [1]}),
        ({"inputs": {"x": [[1]]}}, 2, {"inputs": {"x": [[1]]}}),
        ({"x": [1, 2], "y": 3}, None, {"instances": [{"x": [1, 2], "y": 3}]}),
        ([{"x": 1}, {"x": 2}], None, {"instances": [{"x": 1}, {"x": 2}]}),
        (5, 1, {"instances": [5]}),
        ([], 2, {"instances": []}),
    ],
)
def test_rows_one_row_and_bodies_are_told_apart(given: Any, rank: int | None, sent: Any) -> None:
    assert request_body(given, lambda: rank) == sent


def test_predictions_go_to_standard_output_and_who_answered_to_standard_error(teal: Teal, gateway: FakeGateway) -> None:
    gateway.live = 1
    ran = teal("predict", "digits", "--data", "[[1, 2], [3, 4]]")
    assert [json.loads(line) for line in ran.out.splitlines()] == [[3], [7]]
    assert "version 1 (blue)" in ran.err


def test_one_row_needs_no_second_pair_of_brackets(teal: Teal, gateway: FakeGateway) -> None:
    gateway.live = 1
    assert teal("predict", "digits", "--data", "[1, 2]").out == "[3]\n"


def test_a_file_and_standard_input_are_read(
    teal: Teal, gateway: FakeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.live = 1
    rows = tmp_path / "rows.json"
    rows.write_text('{"instances": [[1, 2]]}')
    assert teal("predict", "digits", "--file", str(rows)).out == "[3]\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("[[2, 2]]"))
    assert teal("predict", "digits", "--file", "-").out == "[4]\n"


def test_a_version_can_be_asked_whatever_the_weights(teal: Teal, gateway: FakeGateway) -> None:
    gateway.live = 1
    assert teal("predict", "digits", "--data", "[[1, 2]]", "--version", "2", "--json").json["version"] == 2


def test_input_that_does_not_fit_is_a_usage_error_in_the_workers_words(teal: Teal, gateway: FakeGateway) -> None:
    gateway.live = 1
    ran = teal("predict", "digits", "--data", "[[1, 2, 3]]")
    assert ran.code == 2
    assert 'input "x": expected float32 [rows, 2]' in ran.err


def test_not_a_number_travels_both_ways_as_a_bare_token(teal: Teal, gateway: FakeGateway) -> None:
    gateway.live = 1
    assert teal("predict", "digits", "--data", "[[NaN, 2]]").out == "[NaN]\n"


def test_a_number_nobody_can_compute_with_is_refused_here_and_not_sent_as_infinity(
    teal: Teal, gateway: FakeGateway
) -> None:
    gateway.live = 1
    ran = teal("predict", "digits", "--data", "[[1e400, 2]]")
    assert ran.code == 2
    assert "1e400 is larger than any" in ran.err
    assert teal("predict", "digits", "--data", "[[Infinity, 2]]").out == "[Infinity]\n"


def test_a_picture_is_sent_as_it_is(teal: Teal, gateway: FakeGateway, tmp_path: Path) -> None:
    gateway.live = 1
    for start, kind in ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG", "image/png")):
        picture = tmp_path / "picture"
        picture.write_bytes(start + b"...")
        assert teal("predict", "digits", "--image", str(picture)).out == f'["{kind}", {len(start) + 3}]\n'


@pytest.mark.parametrize(
    "words", [[], ["--data", "[1]", "--file", "f"], ["--data", "[1]", "--image", "f"], ["--image", "/nowhere/f.png"]]
)
def test_exactly_one_thing_is_predicted(teal: Teal, gateway: FakeGateway, words: list[str]) -> None:
    gateway.live = 1
    ran = teal("predict", "digits", *words)
    assert ran.code == 2
    assert "predict needs one of" in ran.err or "cannot read" in ran.err
