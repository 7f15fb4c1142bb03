"""A declaration about pictures: read back as written, refused with the place of the mistake, proven against a model."""

from typing import Any

import pytest

from contracts.errors import InvalidInput
from contracts.package import Lineage, Manifest, digest_of, manifest_from_json, manifest_to_json
from contracts.preprocessing import Preprocessing, from_json, parse, resolve, to_json
from contracts.signature import Signature, TensorSpec

EVERYTHING = (
    b'{"signature": "s", "input": "image", "size": [224, 160], "resize": "bicubic", "antialias": true, "fit": "pad",'
    b'"pad": 7, "channels": "BGR", "layout": "NCHW", "scale": 2, "mean": [1, 2, 3], "std": [1, 2, 0.5]}'
)


TWO_INPUTS = Signature("s", (TensorSpec("a", "float32", None), TensorSpec("b", "float32", None)), (), batched=True)


def sees(*shape: int | None, dtype: str = "float32", name: str = "serving_default") -> Signature:
    return Signature(name, (TensorSpec("image", dtype, shape),), (TensorSpec("y", "float32", (None, 2)),), True)


def test_a_declaration_reads_back_as_it_was_written() -> None:
    for declared in (parse(EVERYTHING, "f.json"), Preprocessing(), from_json({"mean": 127.5, "size": 32})):
        assert from_json(to_json(declared)) == declared
    assert parse(EVERYTHING, "f.json").std == (1.0, 2.0, 0.5)


def test_a_declaration_is_part_of_a_versions_digest_and_nothing_changes_without_one() -> None:
    plain = Manifest("k", "0", "litert", (), (), (1,), None, (), Lineage(), "now", {})
    declared = Manifest("k", "0", "litert", (), (), (1,), None, (), Lineage(), "now", {}, Preprocessing(fit="crop"))
    assert "preprocessing" not in manifest_to_json(plain)
    assert digest_of(declared) != digest_of(plain)
    assert manifest_from_json(manifest_to_json(declared)) == declared
    assert manifest_from_json(manifest_to_json(plain)) == plain


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{\n  "size": [1, 2],\n  "mean" 3}', "f.json: line 3, column 10"),
        (b"[]", "expected a JSON object, got list"),
        (b'{"men": 3}', 'unknown field "men": did you mean "mean"?'),
        (b'{"zzz": 3}', 'known are "signature"'),
        (b'{"mean": 1, "mean": 2}', 'field "mean" stands twice'),
        (b'{"mean": NaN}', "NaN is no JSON number"),
        (b'{"mean": 1e999}', 'field "mean": expected a number, got Infinity'),
        (b'{"mean": []}', 'field "mean": expected one number, or one for each channel, got []'),
        (b'{"mean": [1, true]}', 'field "mean": expected a number, got true'),
        (b'{"std": [1, 0, 1]}', 'field "std": expected numbers to divide by, got [1, 0, 1]'),
        (b'{"size": [224]}', 'field "size": expected [height, width]'),
        (b'{"size": [0, 224]}', 'field "size"'),
        (b'{"size": 1e3}', 'field "size"'),
        (b'{"size": [224, 100000]}', "each from 1 to 4096"),
        (b'{"resize": "lanczos"}', 'field "resize": expected "bilinear", "nearest", "bicubic", "area", got "lanczos"'),
        (b'{"fit": null}', 'field "fit"'),
        (b'{"channels": "rgb"}', 'field "channels": expected "RGB", "BGR", "gray", "RGBA", got "rgb"'),
        (b'{"layout": ["NHWC"]}', 'field "layout"'),
        (b'{"antialias": 1}', 'field "antialias": expected true or false, got 1'),
        (b'{"pad": 300}', 'field "pad": expected a pixel from 0 to 255'),
        (b'{"input": ""}', 'field "input": expected text'),
        (b"\xff", "f.json"),
        (b"[" * 100_000, "f.json"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line_or_its_field(text: bytes, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(text, "f.json")
    assert said in refused.value.message


def test_what_is_left_open_comes_from_the_signature() -> None:
    target = resolve(Preprocessing(channels="BGR"), (sees(None, 224, 160, 3),))
    assert (target.height, target.width, target.channels, target.input.name) == (224, 160, "BGR", "image")
    target = resolve(Preprocessing(size=(8, 9)), (sees(None, None, None, 1),))
    assert (target.height, target.width, target.channels) == (8, 9, "gray")
    target = resolve(Preprocessing(channels="RGB", layout="NCHW"), (sees(1, 3, 8, 9),))
    assert (target.height, target.width) == (8, 9)
    several = (sees(None, 8, 8, 3, name="other"), sees(None, 9, 9, 3))
    assert resolve(Preprocessing(channels="RGB"), several).height == 9
    assert resolve(Preprocessing(channels="RGB", signature="other"), several).height == 8


@pytest.mark.parametrize(
    ("declared", "signature", "said"),
    [
        ({}, sees(None, 8, 8, 3), '"channels": expected "RGB", "BGR" for "image"'),
        ({}, sees(None, 8, 8, 2), "a model with 1, 3 or 4 channels"),
        ({"channels": "gray"}, sees(None, 8, 8, 3), '"channels": expected "RGB", "BGR"'),
        ({"channels": "RGB"}, sees(None, 3, 8, 8), '"channels"'),
        ({"channels": "RGB"}, sees(None, None, 8, 3), '"size": expected [height, width]'),
        ({"channels": "RGB", "size": [9, 8]}, sees(None, 8, 8, 3), '"size": expected the one of'),
        ({"channels": "RGB", "mean": [1, 2]}, sees(None, 8, 8, 3), '"mean": expected one number, or 3 for RGB'),
        ({"channels": "RGB", "std": 2}, sees(None, 8, 8, 3, dtype="uint8"), "are for inputs of floats"),
        ({"channels": "RGB"}, sees(None, 8, 8, 3, dtype="int64"), 'a tensor of "float32"'),
        ({"channels": "RGB"}, sees(None, 64), "a tensor of shape [rows, H, W, C]"),
        ({"channels": "RGB"}, sees(2, 8, 8, 3), "a tensor of shape [rows, H, W, C]"),
        ({"input": "x"}, sees(None, 8, 8, 3), '"input": expected "image", the only input'),
        ({"signature": "x"}, sees(None, 8, 8, 3), '"signature": expected one of "serving_default", got "x"'),
        ({}, TWO_INPUTS, "takes a picture and nothing else"),
    ],
)  # fmt: skip
def test_a_declaration_that_does_not_fit_the_model_is_refused(
    declared: dict[str, Any], signature: Signature, said: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        resolve(from_json(declared), (signature,))
    assert said in refused.value.message
