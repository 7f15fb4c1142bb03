"""Samples come back as they were written, strings included, and nothing is ever unpickled."""

from pathlib import Path

import numpy as np
import pytest

from serving.engine.samples import Samples, read_samples, write_samples


def test_samples_come_back_as_they_were_written(tmp_path: Path) -> None:
    words = np.array([[b"a\x00", b""], ["é".encode(), b"\xff\x00\x00"]], object)
    inputs = {"x/y": np.arange(6, dtype=np.int8).reshape(2, 3), "words": words, "flag": np.array([True, False])}
    write_samples(
        tmp_path / "s.npz", {"one": Samples(inputs, {"out": np.ones(2)}), "two": Samples({"x": np.ones(1)}, {})}
    )
    found = read_samples(tmp_path / "s.npz")
    assert set(found) == {"one", "two"}
    assert found["one"].inputs["words"].tolist() == words.tolist()
    for name in ("x/y", "flag"):
        np.testing.assert_array_equal(found["one"].inputs[name], inputs[name])
        assert found["one"].inputs[name].dtype == inputs[name].dtype
    assert found["one"].outputs["out"].tolist() == [1, 1]
    assert found["two"].outputs == {}


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", **{"one/inputs/x": np.array([{"a": 1}], object)})
    with pytest.raises(ValueError, match="allow_pickle"):
        read_samples(tmp_path / "evil.npz")
