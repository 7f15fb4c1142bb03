"""Samples that a person gave: read in every form, and every misfit named."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.errors import InvalidInput
from contracts.signature import Signature, TensorSpec
from serving.prepare.given import read_given

IMAGE = Signature(
    "serving_default",
    (TensorSpec("image", "float32", (None, 2)),),
    (TensorSpec("y", "float32", (None,)),),
    batched=False,
)
PAIR = Signature(
    "pair",
    (TensorSpec("words", "string", (None,)), TensorSpec("count", "uint8", (None,))),
    (TensorSpec("y", "float32", (None,)),),
    batched=False,
)


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path / "s.npz", **arrays)
    return path / "s.npz"


def as_json(path: Path, value: Any) -> Path:
    (path / "s.json").write_text(json.dumps(value))
    return path / "s.json"


def test_arrays_by_input_name(tmp_path: Path) -> None:
    name, inputs = read_given(npz(tmp_path, image=np.ones((3, 2), np.float32)), (IMAGE, PAIR))
    assert (name, inputs["image"].shape) == ("serving_default", (3, 2))


def test_the_signature_is_found_by_its_inputs_and_text_becomes_bytes(tmp_path: Path) -> None:
    file = npz(tmp_path, words=np.array(["a", "bü"]), count=np.array([1, 2], np.uint8))
    name, inputs = read_given(file, (IMAGE, PAIR))
    assert (name, inputs["words"].tolist()) == ("pair", [b"a", "bü".encode()])


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[1, 2], [3, 4]]},
        {"instances": [{"image": [1, 2]}, {"image": [3, 4]}]},
        {"inputs": [[1, 2], [3, 4]]},
        {"inputs": {"image": [[1, 2], [3, 4.0]]}, "signature_name": "serving_default"},
    ],
)
def test_json_in_row_and_column_form(body: Any, tmp_path: Path) -> None:
    _, inputs = read_given(as_json(tmp_path, body), (IMAGE, PAIR))
    assert inputs["image"].dtype == np.float32
    assert inputs["image"].tolist() == [[1, 2], [3, 4]]


def test_json_texts_may_be_base64(tmp_path: Path) -> None:
    raw = base64.b64encode(b"\xff\x00").decode()
    body = {"signature_name": "pair", "inputs": {"words": ["a", {"b64": raw}], "count": [1, 255]}}
    _, inputs = read_given(as_json(tmp_path, body), (IMAGE, PAIR))
    assert inputs["words"].tolist() == [b"a", b"\xff\x00"]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (
            {"picture": np.ones((1, 2), np.float32)},
            'inputs of signature "serving_default", "image", got "picture"',
        ),
        ({"image": np.ones((1, 3), np.float32)}, r"expected float32 \[\?, 2\], got float32 \[1, 3\]"),
        ({"image": np.ones((1, 2))}, r"expected float32 \[\?, 2\], got float64 \[1, 2\]"),
        ({"image": np.ones(2, np.float32)}, r"got float32 \[2\]"),
        ({"image": np.ones((0, 2), np.float32)}, "expected at least one row"),
        ({"image": np.array([None, 1], object)}, "plain arrays"),
        ({"words": np.array(["a"]), "count": np.array([1, 2], np.uint8)}, '"words" has 1, "count" has 2'),
    ],
)
def test_arrays_that_do_not_fit_are_named(arrays: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=words):
        read_given(npz(tmp_path, **arrays), (IMAGE, PAIR))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"instances": []}, "at least one row"),
        ({"instances": [[1, 2], [3]]}, "rows of different sizes"),
        ({"instances": [["a", "b"]]}, r"expected float32 \[\?, 2\]"),
        ({"rows": []}, "like :predict"),
        ([], "like :predict"),
        ({"instances": [[1, 2]], "signature_name": "none"}, "no signature 'none'"),
        ({"inputs": {"words": ["a"]}, "signature_name": "pair"}, 'expected inputs "count", "words", got "words"'),
        ({"instances": [{"words": "a"}], "signature_name": "pair"}, "row 0"),
        ({"inputs": {"words": ["a"], "count": [256]}, "signature_name": "pair"}, r"expected uint8 \[\?\]"),
        ({"inputs": {"words": ["a"], "count": [0.5]}, "signature_name": "pair"}, r"expected uint8 \[\?\]"),
        ({"inputs": {"words": [1], "count": [1]}, "signature_name": "pair"}, "expected text"),
        ({"inputs": {"words": [{"b64": "?"}], "count": [1]}, "signature_name": "pair"}, "is not base64"),
    ],
)
def test_json_that_does_not_fit_is_named(body: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=words):
        read_given(as_json(tmp_path, body), (IMAGE, PAIR))


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"[" * 100_000, b"PK\x03\x04 half an archive"])
def test_a_file_that_is_neither_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(InvalidInput, match="neither"):
        read_given(tmp_path / "s", (IMAGE,))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        read_given(tmp_path / "s", (IMAGE,))
