"""Serialized tf.Examples, as TensorFlow itself reads them."""

import pytest

from serving.codec.example import serialize


def test_a_small_example_byte_by_byte() -> None:
    assert serialize({}) == b"\x0a\x00"
    assert serialize({"a": [1]}) == b"\x0a\x0c\x0a\x0a\x0a\x01a\x12\x05\x1a\x03\x0a\x01\x01"


@pytest.mark.tensorflow
def test_tensorflow_reads_what_was_written() -> None:
    from tensorflow.core.example.example_pb2 import Example  # noqa: PLC0415 - slow, and only here

    whole = [0, 1, -1, 127, 128, 2**63 - 1, -(2**63)]
    numbers = [0.5, -1.25, float("inf"), 3.0]
    words = [b"", b"\xff\x00", b"x" * 300]
    text = serialize({"whole": whole, "numbers": numbers, "wörds": words, "none": []})
    example = Example.FromString(text)
    features = example.features.feature
    assert list(features["whole"].int64_list.value) == whole
    assert list(features["numbers"].float_list.value) == numbers
    assert list(features["wörds"].bytes_list.value) == words
    assert features["none"].WhichOneof("kind") is None
    assert len(features) == 4
