"""Arrays as numpy saves them, as the body of :predict and as its answer."""

import gzip
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidInput
from contracts.limits import LIMITS
from contracts.signature import Signature, TensorSpec
from serving.codec import npy
from serving.codec.columns import Column
from tests.serving.engines import FormulaEngine, half_plus_two
from tests.serving.http.asgi import Answer, Client, run

PREDICT = "/v1/models/half_plus_two:predict"
NPY = {"content-type": "application/x-npy"}
IMAGE = Signature(
    "serving_default",
    (TensorSpec("image", "float32", (None, 2, 3)),),
    (TensorSpec("sum", "float32", (None,)),),
    batched=True,
)
VALUES = np.array([1, 2, 5], np.float32)


def saved(array: Any, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), version=version)
    return file.getvalue()


def ask(body: bytes, headers: dict[str, str] | None = None, *args: Any, **how: Any) -> Answer:
    async def story(client: Client) -> Answer:
        return await client.ask("POST", PREDICT, body, NPY | (headers or {}))

    return run(story, *args, **how)  # type: ignore[no-any-return]


def sums() -> FormulaEngine:
    return FormulaEngine(lambda inputs: {"sum": inputs["image"].sum(axis=(1, 2))})


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_an_array_is_predicted_and_answered_as_json(version: tuple[int, int]) -> None:
    answer = ask(saved(VALUES, version))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.body == b'{"predictions":[2.5,3.0,4.5]}'


@pytest.mark.parametrize(
    "accept",
    [
        "application/x-npy", "application/json;q=0.5, application/X-NPY", "*/*, application/x-npy;q=0.1",
        "application/x-npy ; q=1.0,application/json",
    ],
)  # fmt: skip
def test_who_asks_for_an_array_gets_one(accept: str) -> None:
    answer = ask(saved(VALUES), {"accept": accept})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-npy")
    array = np.load(io.BytesIO(answer.body), allow_pickle=False)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, VALUES / 2 + 2)


@pytest.mark.parametrize(
    "accept",
    [
        "*/*", "application/json", "application/x-npy;q=0", "application/x-npy;q=0.5,application/json", "text/html",
        "application/x-npy;q=nan", ",;,;q=", "application/x-npy;q=-1",
    ],
)  # fmt: skip
def test_everybody_else_gets_json(accept: str) -> None:
    assert ask(saved(VALUES), {"accept": accept}).headers["content-type"] == "application/json"


def test_the_order_in_memory_and_of_bytes_does_not_matter() -> None:
    rows = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    expected = rows.sum(axis=(1, 2)).tolist()
    for array in (rows, np.asfortranarray(rows), rows.astype(">f4"), np.asfortranarray(rows.astype(">f4"))):
        assert ask(saved(array), None, sums(), (IMAGE,)).json == {"predictions": expected}


def test_a_scalar_stays_one() -> None:
    scalar = Signature("serving_default", (TensorSpec("x", "float32", ()),), (TensorSpec("y", "float32", ()),), False)
    engine = FormulaEngine(lambda inputs: {"y": np.asarray(inputs["x"] * 2)})
    assert ask(saved(np.float32(1.5)), None, engine, (scalar,)).json == {"outputs": 3.0}


def test_other_writers_spell_the_header_their_own_way() -> None:
    for text in (
        b'{"shape":(3,),"fortran_order":False,"descr":"<f4"}',
        b"{'descr': '<f4', 'fortran_order': True, 'shape': ( 3 , ) }      \n",
    ):
        body = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + VALUES.tobytes()
        assert ask(body).json == {"predictions": [2.5, 3.0, 4.5]}


@pytest.mark.parametrize(
    "array",
    [
        VALUES.astype("f8"), VALUES.astype("i4"), VALUES.astype("f2"), VALUES.reshape(1, 3), np.float32(1),
        np.zeros(0, np.float32), np.array(["a"]), np.array([b"a"]), np.array([1j]), np.zeros(2, "M8[s]"),
        np.zeros(2, [("a", "f4")]), np.zeros((1,) * 9, "f4"), VALUES > 1,
    ],
    ids=str,
)  # fmt: skip
def test_an_array_the_model_does_not_take_is_400(array: Any) -> None:
    answer = ask(saved(array))
    assert (answer.status, list(answer.json)) == (400, ["error"])


def test_the_error_names_what_is_expected_and_what_came() -> None:
    assert ask(saved(VALUES.astype("f8"))).json["error"] == (
        'input "x": expected float32 [rows], got an array of dtype "float64"'
    )
    assert ask(saved(VALUES)[:-4]).json["error"] == (
        'input "x": an array of float32 [3] has 12 bytes, 8 follow the header'
    )


def header(text: bytes, length: int | None = None, magic: bytes = b"\x93NUMPY\x01\x00") -> bytes:
    return magic + (len(text) if length is None else length).to_bytes(2, "little") + text + VALUES.tobytes()


GOOD = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\x93", b"\x93NUMPY", b"\x93NUMPY\x01\x00", b"\x93NUMPX" + saved(VALUES)[6:], b"PK\3\4", b"{}",
        saved(VALUES) + b"x", saved(VALUES)[:60], header(GOOD, magic=b"\x93NUMPY\x09\x00"),
        header(GOOD, length=60_000), header(GOOD, length=3), header(GOOD + b" " * 2000), header(b""),
        header(GOOD.replace(b"<f4", b"|O")), header(GOOD.replace(b"<f4", b"q9")), header(GOOD.replace(b"<f4", b"<f3")),
        header(GOOD.replace(b"(3,)", b"(-3,)")), header(GOOD.replace(b"(3,)", b"(3")),
        header(GOOD.replace(b"(3,)", b"(,3)")), header(GOOD.replace(b"(3,)", b"(3 3)")),
        header(GOOD.replace(b"(3,)", b"(999999999999999999999,)")), header(GOOD.replace(b"False", b"0")),
        header(GOOD.replace(b"'shape'", b"'descr'")), header(GOOD.replace(b"(3,)", b"__import__('os')")),
        header(b"[" * 1000),
    ],
)  # fmt: skip
def test_what_is_no_npy_file_is_400(body: bytes) -> None:
    answer = ask(body)
    assert (answer.status, list(answer.json)) == (400, ["error"])


def test_pickled_objects_are_never_read() -> None:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], object), allow_pickle=True)
    assert ask(file.getvalue()).status == 400


@given(st.data())
def test_any_change_of_any_byte_is_an_array_or_refused(data: st.DataObject) -> None:
    body = bytearray(saved(VALUES))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    column = Column(TensorSpec("x", "float32", (None,)), batched=True)
    try:
        array = npy.read(column, bytes(body))
    except InvalidInput:
        return
    assert (array.dtype, array.shape) == (np.float32, (3,))


def test_only_one_array_goes_in_and_one_comes_out() -> None:
    two = replace(IMAGE, inputs=(*IMAGE.inputs, TensorSpec("more", "float32", (None,))))
    error = ask(saved(np.zeros((1, 2, 3), "f4")), None, sums(), (two,)).json["error"]
    assert error.startswith("a .npy body is a single array")
    both = replace(IMAGE, outputs=(*IMAGE.outputs, TensorSpec("more", "float32", (None,))))
    engine = FormulaEngine(lambda i: {"sum": i["image"].sum(axis=(1, 2)), "more": i["image"][:, 0, 0]})
    body = saved(np.zeros((1, 2, 3), "f4"))
    assert ask(body, None, engine, (both,)).json == {"predictions": [{"sum": 0.0, "more": 0.0}]}
    refused = ask(body, {"accept": "application/x-npy"}, engine, (both,))
    assert (refused.status, refused.headers["content-type"]) == (400, "application/json")


def test_arrays_have_the_limit_of_binary_bodies() -> None:
    small = replace(LIMITS, json_body=1000, binary_body=5000)
    array = np.ones(500, np.float32)
    assert ask(saved(array), limits=small).status == 200
    assert ask(saved(array), {"content-type": "application/json"}, limits=small).status == 413
    assert ask(saved(np.ones(2000, np.float32)), limits=small).status == 413
    assert ask(gzip.compress(saved(array)), {"content-encoding": "gzip"}, limits=small).status == 200
    assert ask(b'{"instances":[1.0]}' + b" " * 2000, limits=small).status == 400


def test_an_array_that_has_to_queue_is_answered_alike() -> None:
    answer = ask(saved(VALUES), {"accept": "application/x-npy"}, half_plus_two(), cost=1.0)
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.body), allow_pickle=False), VALUES / 2 + 2)
