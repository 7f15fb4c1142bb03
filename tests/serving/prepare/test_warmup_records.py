"""Warm-up files are read without TensorFlow: what fits becomes samples, what does not is named with its record."""

import struct
from pathlib import Path

import numpy as np
import pytest

from contracts.errors import InvalidInput
from contracts.signature import Signature, TensorSpec
from serving.codec.example import serialize
from serving.engine.samples import read_samples
from serving.prepare import finish
from serving.prepare.tfrecord import crc32c
from serving.prepare.warmup_records import MAX_RECORDS, WarmUp, read_warm_up
from tests.serving.prepare import records
from tests.serving.prepare.conftest import MakeModel, Preparer
from tests.serving.prepare.test_prepare import copy_of

IMAGE = Signature(
    "serving_default",
    (TensorSpec("image", "float32", (None, None)),),
    (TensorSpec("y", "float32", (None,)),),
    batched=False,
)
WORDS = Signature(
    "words", (TensorSpec("text", "string", (None,)),), (TensorSpec("y", "float32", (None,)),), batched=False
)
TWO = Signature(
    "two",
    (TensorSpec("a", "float32", (None,)), TensorSpec("b", "float32", (None,))),
    (TensorSpec("y", "float32", (None,)),),
    batched=False,
)
ALL = (IMAGE, WORDS, TWO)


def ones(*shape: int) -> bytes:
    return records.floats(np.ones(shape, np.float32))


def read(path: Path, *given: bytes) -> WarmUp:
    records.write(path, *given)
    found = read_warm_up(path, ALL)
    assert found is not None
    return found


def slow_crc32c(data: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize("length", [0, 1, 9, 511, 512, 513, 4_000, 10_007])
def test_the_checksum_is_the_same_beside_each_other_as_byte_by_byte(length: int) -> None:
    data = np.random.default_rng(length).bytes(length)
    assert crc32c(data) == slow_crc32c(data)


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the CRC catalogues
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


def test_a_model_without_a_warm_up_file_has_none(tmp_path: Path) -> None:
    assert read_warm_up(tmp_path, ALL) is None


def test_rows_of_all_records_are_joined_shape_by_shape_most_rows_first(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        records.predict({"image": ones(1, 3)}),
        records.predict({"image": ones(2, 5)}),
        records.predict({"image": ones(4, 5)}, "serving_default"),
        records.predict({"text": records.texts(b"a", b"b\xff")}, "words"),
    )
    assert [call["image"].shape for call in found.given["serving_default"].calls] == [(6, 5), (1, 3)]
    assert found.given["words"].calls[0]["text"].tolist() == [b"a", b"b\xff"]
    assert found.note == '4 warm-up records of the source fit and are the samples of "serving_default", "words"'


def test_examples_become_serialized_texts_with_their_context_in_front(tmp_path: Path) -> None:
    one, two = serialize({"n": [1]}), serialize({"n": [2]})
    found = read(tmp_path, records.classify([one, two], None, "words"), records.classify([two], one, "words"))
    assert found.given["words"].calls[0]["text"].tolist() == [one, two, one + two]


def test_session_runs_are_left_out_and_said(tmp_path: Path) -> None:
    found = read(tmp_path, records.field(5, b""), records.predict({"image": ones(1, 2)}))
    assert "left out: 1 calls of the session" in found.note


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (b"\xff\xff", "got bytes that do not parse"),
        (b"", "got one without any"),
        (records.predict({"image": ones(1, 2)}, "other"), 'calls signature "other", the model has "serving_default"'),
        (records.predict({"picture": ones(1, 2)}), 'input "image" is missing'),
        (records.predict({"image": ones(1, 2), "z": ones(1)}), 'input "z" is none of its inputs'),
        (records.predict({"image": ones(2)}), r'input "image": expected float32 \[\?, \?\], got float32 \[2\]'),
        (records.predict({"image": records.texts(b"a")}), r"expected float32 \[\?, \?\], got string \[1\]"),
        (records.predict({"image": ones(0, 2)}), "expected at least one row"),
        (records.predict({"image": records.tensor(1, (1, 2), bytes(4))}), 'input "image" holds 4 bytes for 2 values'),
        (records.predict({"image": records.tensor(1, (1 << 40, 1 << 40), b"")}), "which is over"),
        (records.predict({"image": records.tensor(99, (1,), b"")}), "dtype that is not read, number 99"),
        (records.predict({"image": records.varint(1, 1) + records.field(2, records.varint(3, 1))}), "its shape"),
        (records.predict({"a": ones(1), "b": ones(2)}, "two"), '"a" has 1, "b" has 2'),
        (records.classify([b"\xff"]), "is no tensorflow.serving.ClassificationRequest"),
        (records.classify([b""]), 'sends tf.Examples to signature "serving_default"'),
    ],
)
def test_a_record_that_does_not_fit_is_named_with_its_number(record: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=f"record 1: .*{words}"):
        read(tmp_path, records.predict({"image": ones(1, 2)}), record)


@pytest.mark.parametrize("cut", [1, 4, 5, 11, 12, 17])
def test_a_file_cut_short_is_named(cut: int, tmp_path: Path) -> None:
    path = records.write(tmp_path, records.predict({"image": ones(1, 2)}))
    path.write_bytes(path.read_bytes() + path.read_bytes()[:cut])
    with pytest.raises(InvalidInput, match=r"record 1 (has a damaged or unfinished length|is cut short)"):
        read_warm_up(tmp_path, ALL)


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    path = records.write(tmp_path, records.predict({"image": ones(1, 2)}))
    good = path.read_bytes()
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        with pytest.raises(InvalidInput, match="record 0"):
            read_warm_up(tmp_path, ALL)


def test_a_promised_length_is_not_believed(tmp_path: Path) -> None:
    length = struct.pack("<Q", 1 << 62)
    records.write(tmp_path).write_bytes(length + records.masked(length))
    with pytest.raises(InvalidInput, match="record 0 is cut short"):
        read_warm_up(tmp_path, ALL)


def test_a_thousand_records_are_read_and_one_more_is_refused(tmp_path: Path) -> None:
    record = records.predict({"image": ones(1, 2)})
    assert len(read(tmp_path, *[record] * MAX_RECORDS).given["serving_default"].calls[0]["image"]) == 1000
    with pytest.raises(InvalidInput, match="at most 1000 records"):
        read(tmp_path, *[record] * (MAX_RECORDS + 1))


@pytest.mark.tensorflow
def test_the_warm_up_records_are_the_packages_samples(model: MakeModel, tmp_path: Path, prepared: Preparer) -> None:
    copy = copy_of(model("dense"), tmp_path)
    images = np.linspace(0, 1, 5 * 64, dtype=np.float32).reshape(5, 64)
    records.write(copy, *[records.predict({"image": records.floats(image[None])}) for image in images])
    manifest = prepared(copy)
    kept = read_samples(prepared.output / finish.SAMPLES_PATH)["serving_default"]
    np.testing.assert_array_equal(kept.inputs["image"], images)
    note = '5 warm-up records of the source fit and are the samples of "serving_default"'
    assert note in manifest.plan_report("tensorflow").reason
    assert ("samples", note) in prepared.told


@pytest.mark.tensorflow
def test_a_warm_up_record_that_does_not_fit_fails_before_tensorflow_is_imported(
    model: MakeModel, tmp_path: Path, prepared: Preparer
) -> None:
    copy = copy_of(model("dense"), tmp_path)
    records.write(copy, records.predict({"image": ones(1, 63)}))
    with pytest.raises(
        InvalidInput, match=r'record 0: .*input "image": expected float32 \[\?, 64\], got float32 \[1, 63'
    ):
        prepared(copy)
    assert (prepared.runtimes, list(prepared.output.iterdir())) == (0, [])


@pytest.mark.tensorflow
def test_given_samples_go_before_warm_up_records(model: MakeModel, tmp_path: Path, prepared: Preparer) -> None:
    copy = copy_of(model("dense"), tmp_path)
    records.write(copy, records.predict({"image": ones(1, 63)}))
    np.savez(tmp_path / "samples.npz", image=np.ones((4, 64), np.float32))
    assert "warm-up records" not in prepared(copy, tmp_path / "samples.npz").plan_report("tensorflow").reason
