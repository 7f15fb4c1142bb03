"""TensorProtos are read and written as TensorFlow's own, and a shape alone costs nothing."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from contracts.errors import InvalidInput
from contracts.signature import TensorSpec
from serving.codec.columns import Column
from serving.codec.messages import message_class
from serving.codec.tensorproto import DTYPES, read, to_array
from serving.engine.base import NUMPY_DTYPES
from tests.serving.codec.calls import tensor as tensor_of

TENSOR = message_class("tensorflow.TensorProto")
MIB = 1 << 20
IMAGE = Column(TensorSpec("image", "float32", (None, 8, 8)), batched=True)
NUMBERS = {name: number for number, name in DTYPES.items()}


def tensor(dtype: str, shape: tuple[int, ...], **values: Any) -> Any:
    made = TENSOR(dtype=NUMBERS[dtype], **values)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


def example_of(dtype: str) -> Any:
    wide = np.array([[1, 0, 3], [2, 1, 0]])
    return wide.astype(NUMPY_DTYPES[dtype]) if dtype != "string" else wide.astype(str).astype("S").astype(object)


@pytest.mark.parametrize("dtype", sorted(NUMPY_DTYPES))
def test_what_was_written_is_read(dtype: str) -> None:
    values = example_of(dtype)
    back = read(Column(TensorSpec("y", dtype, None), batched=False), tensor_of("y", values))
    assert back.dtype == NUMPY_DTYPES[dtype]
    assert np.array_equal(back, values)


@pytest.mark.parametrize("array", [np.float32(1.5), np.empty((0, 3), np.int64), np.ones((4, 3), np.int8).T])
def test_scalars_empty_and_turned_arrays_are_written(array: Any) -> None:
    array = np.asarray(array)
    made = tensor_of("y", array)
    assert made.HasField("tensor_shape")
    back = to_array(made, MIB)
    assert back.shape == array.shape
    assert np.array_equal(back, array)


def test_a_bfloat16_output_is_written() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    made = tensor_of("y", np.array([1, -2], ml_dtypes.bfloat16))
    assert (made.dtype, made.tensor_content) == (NUMBERS["bfloat16"], b"\x80\x3f\x00\xc0")


def test_texts_in_tensor_content_and_values_left_out_are_read() -> None:
    assert to_array(tensor("string", (2,), tensor_content=b"\x01\x02abb"), MIB).tolist() == [b"a", b"bb"]
    assert to_array(tensor("int32", (4,), int_val=[1, 7]), MIB).tolist() == [1, 7, 7, 7]
    assert to_array(tensor("int32", (2, 2), int_val=[7]), MIB).tolist() == [[7, 7], [7, 7]]
    assert to_array(tensor("int64", ()), MIB).tolist() == 0
    assert to_array(tensor("string", (2,)), MIB).tolist() == [b"", b""]
    assert to_array(tensor("float16", (2,), half_val=[15360, 0xFC00]), MIB).tolist() == [1.0, -np.inf]


def test_nan_arrives() -> None:
    read_back = read(
        Column(TensorSpec("x", "float32", (None,)), batched=True), tensor("float32", (2,), float_val=[np.nan, -np.inf])
    )
    assert np.array_equal(read_back, np.array([np.nan, -np.inf], np.float32), equal_nan=True)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (tensor("uint8", (1, 8, 8), int_val=[1]), 'input "image": expected float32 [rows, 8, 8], got uint8 [1, 8, 8]'),
        (tensor("float32", (1, 9, 8), float_val=[1]), "expected float32 [rows, 8, 8], got shape [1, 9, 8]"),
        (tensor("float32", (1, 8, 8), float_val=[1] * 65), 'input "image" holds 65 values for shape [1, 8, 8]'),
        (tensor("float32", (1, 8, 8), tensor_content=b"1234"), 'input "image" holds 4 bytes for 64 values of float32'),
        (tensor("float32", (-1, 8, 8)), 'input "image" does not say its shape'),
        (tensor("float32", (2**62, 8, 8)), "which is over"),
        (tensor("float32", (1,) * 65), "got 65 dimensions"),
        (TENSOR(dtype=99), "got dtype number 99 []"),
        (TENSOR(), "got dtype number 0 []"),
    ],
)
def test_what_does_not_fit_is_named(made: Any, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(IMAGE, made)
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (tensor("int8", (1,), int_val=[300]), "holds a value that is no int8"),
        (tensor("uint16", (1,), int_val=[-1]), "holds a value that is no uint16"),
        (tensor("float16", (1,), half_val=[1 << 16]), "holds a value that is no float16"),
        (tensor("complex64", (1,), scomplex_val=[1.0]), "middle of a complex number"),
        (tensor("bool", (1,), tensor_content=b"\2"), "neither 0 nor 1"),
        (tensor("string", (2,), tensor_content=b"\x01"), "ends within the lengths"),
        (tensor("string", (2,), tensor_content=b"\x01\x01a"), "holds 1 bytes of text where its lengths say 2"),
        (tensor("string", (1,), tensor_content=b"\xff" * 30), "ends within the lengths"),
        (tensor("bfloat16", (1,), half_val=[1]), "a dtype that is not read, bfloat16"),
    ],
)
def test_values_that_are_none_are_refused(made: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        to_array(made, MIB)


@pytest.mark.parametrize("shape", [(2**31 - 1, 2**31 - 1), (2**20, 8), (1 << 21,)])
def test_a_shape_without_data_reserves_nothing(shape: tuple[int, ...]) -> None:
    made = tensor("float64", shape, double_val=[1.5])
    tracemalloc.start()
    try:
        array = to_array(made, 64 * MIB)
    except ValueError as error:
        assert "which is over" in str(error)
    else:
        assert array.shape == shape
        assert array.flat[-1] == 1.5
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MIB


@pytest.mark.tensorflow
@pytest.mark.parametrize("dtype", sorted(NUMPY_DTYPES))
def test_tensors_are_read_as_tensorflow_writes_them_and_the_other_way_round(dtype: str) -> None:
    import tensorflow as tf  # noqa: PLC0415 - slow, and only here

    values = example_of(dtype)
    plain = tf.make_tensor_proto(values.tolist(), getattr(tf, dtype), values.shape)
    packed = tf.make_tensor_proto(values, getattr(tf, dtype))
    for proto in (plain, packed):
        read_back = to_array(TENSOR.FromString(proto.SerializeToString()), MIB)
        assert read_back.dtype == NUMPY_DTYPES[dtype]
        assert read_back.tolist() == values.tolist()
    theirs = type(packed).FromString(tensor_of("y", values).SerializeToString())
    assert tf.make_ndarray(theirs).tolist() == values.tolist()


@pytest.mark.tensorflow
def test_our_field_numbers_are_tensorflows() -> None:
    import tensorflow as tf  # noqa: PLC0415 - slow, and only here
    from tensorflow.core.example import example_pb2, feature_pb2  # noqa: PLC0415
    from tensorflow.core.protobuf import meta_graph_pb2  # noqa: PLC0415

    for theirs in (
        tf.make_tensor_proto(1.0).DESCRIPTOR,
        tf.TensorShape([1]).as_proto().DESCRIPTOR,
        example_pb2.Example.DESCRIPTOR,
        feature_pb2.Features.DESCRIPTOR,
        feature_pb2.Feature.DESCRIPTOR,
        meta_graph_pb2.SignatureDef.DESCRIPTOR,
        meta_graph_pb2.TensorInfo.DESCRIPTOR,
    ):
        for field in message_class(theirs.full_name).DESCRIPTOR.fields:
            known = theirs.fields_by_name[field.name]
            assert (known.number, known.type, known.is_repeated) == (field.number, field.type, field.is_repeated)
    assert {n: tf.as_dtype(n).name for n in DTYPES} == DTYPES
