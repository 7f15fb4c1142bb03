"""A .tflite file is served as it is: described by itself, its rows measured, TensorFlow never asked."""

import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from contracts.clock import SystemClock
from contracts.errors import InvalidInput
from contracts.package import Manifest, read_manifest, verify
from contracts.prepare import PrepareSpec
from contracts.signature import TensorSpec
from serving.engine.opening import open_engine
from serving.engine.samples import read_samples
from serving.prepare import finish
from serving.prepare.isolated import DiedOrLate
from serving.prepare.steps import prepare
from tests.serving.prepare.conftest import MakeModel, Preparer
from tests.serving.prepare.test_process import finish as lines_of
from tests.serving.prepare.test_process import start

pytestmark = pytest.mark.tensorflow  # to make the files; preparing them needs none


@pytest.fixture(scope="module")
def files(zoo: Any, model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The .tflite file of a zoo model, with its signatures or, as older converters wrote them, without."""
    tf = zoo.tf
    root = tmp_path_factory.mktemp("tflite")

    def make(name: str, signatures: bool = True) -> Path:
        path = root / f"{name}-{signatures}.tflite"
        if not path.exists():
            converter = tf.lite.TFLiteConverter.from_saved_model(str(model(name)))
            if not signatures:
                loaded = tf.saved_model.load(str(model(name)))
                converter = tf.lite.TFLiteConverter.from_concrete_functions([loaded.signatures["serving_default"]])
            path.write_bytes(converter.convert())
        return path

    return make


def answer_of(prepared: Preparer, manifest: Manifest, **inputs: Any) -> Any:
    engine = open_engine(prepared.output, manifest, threads=1)
    return engine.run("serving_default", inputs)


def test_a_tflite_file_is_a_package_with_one_plan_and_no_comparison(files: Any, prepared: Preparer) -> None:
    manifest = prepared(files("dense"))
    assert (manifest.source_kind, manifest.plan, prepared.runtimes) == ("tflite", "litert", 0)
    assert [p.name for p in manifest.plans] == ["litert"]
    report = manifest.plan_report("litert")
    assert "there is no TensorFlow model to compare it with" in report.reason
    assert (report.max_abs_error, report.argmax_flips, report.rows_checked) == (None, None, None)
    assert manifest.signatures[0].inputs == (TensorSpec("image", "float32", (None, 64)),)
    assert manifest.signatures[0].batched
    assert manifest.buckets == (1, 2, 4, 8, 16, 32, 64)
    assert "tensorflow" not in manifest.prepared_with
    assert verify(prepared.output, prepared.result.digest) == manifest


def test_it_answers_as_the_tensorflow_model_it_was_made_from(
    files: Any, model: MakeModel, zoo: Any, prepared: Preparer
) -> None:
    images = np.random.default_rng(3).random((5, 64), np.float32)
    expected = zoo.tf.saved_model.load(str(model("dense"))).signatures["serving_default"](image=images)
    got = answer_of(prepared, prepared(files("dense")), image=images)
    np.testing.assert_allclose(got["output_0"], expected["output_0"].numpy(), atol=1e-5)


def test_a_file_without_signatures_is_called_by_its_own_names(files: Any, prepared: Preparer) -> None:
    manifest = prepared(files("dense", signatures=False))
    signature = manifest.signatures[0]
    assert (signature.name, len(signature.inputs), len(signature.outputs)) == ("serving_default", 1, 1)
    assert signature.inputs[0].name.isidentifier() and signature.outputs[0].name.isidentifier()
    answer = answer_of(prepared, manifest, **{signature.inputs[0].name: np.ones((3, 64), np.float32)})
    assert answer[signature.outputs[0].name].shape == (3, 10)


def test_rows_of_a_file_that_influence_each_other_are_found_out(files: Any, prepared: Preparer) -> None:
    manifest = prepared(files("leaky_rows"))
    assert (manifest.signatures[0].batched, manifest.buckets) == (False, (1,))
    assert "are not joined" in manifest.plan_report("litert").reason


def test_a_fixed_first_dimension_of_a_file_is_not_batched(files: Any, prepared: Preparer) -> None:
    manifest = prepared(files("fixed_rows"))
    assert (manifest.signatures[0].batched, manifest.buckets) == (False, (1,))
    assert answer_of(prepared, manifest, x=np.ones((1, 4), np.float32))["y"].tolist() == [[2.0] * 4]


def test_samples_are_taken_by_the_files_own_names(files: Any, tmp_path: Path, prepared: Preparer) -> None:
    images = np.linspace(0, 1, 5 * 64, dtype=np.float32).reshape(5, 64)
    np.savez(tmp_path / "samples.npz", image=images)
    prepared(files("dense"), tmp_path / "samples.npz")
    kept = read_samples(prepared.output / finish.SAMPLES_PATH)["serving_default"]
    np.testing.assert_array_equal(kept.inputs["image"], images)
    with pytest.raises(InvalidInput, match='expected the inputs of signature "serving_default", "image"'):
        np.savez(tmp_path / "samples.npz", picture=images)
        Preparer(tmp_path / "other")(files("dense"), tmp_path / "samples.npz")


@pytest.mark.parametrize("keep", [8, 100, 0.5])
def test_a_file_cut_short_is_refused_and_nothing_is_left(keep: float, files: Any, tmp_path: Path) -> None:
    """In a process of its own, as the registry prepares: reading such a file may end the child that reads it."""
    whole = files("dense").read_bytes()
    length = int(len(whole) * keep) if keep < 1 else int(keep)
    (tmp_path / "cut.tflite").write_bytes(whole[:length])
    output = tmp_path / "package"
    lines = lines_of(start(PrepareSpec(str(tmp_path / "cut.tflite"), str(output))))
    assert lines[-1]["error"]["code"] == "invalid_input"
    assert list(output.iterdir()) == []


def test_a_file_that_ends_the_process_that_reads_it_is_refused(tmp_path: Path) -> None:
    class Deadly:
        versions: ClassVar[dict[str, str]] = {"litert": "2"}
        closed = False

        def signatures(self, litert_file: Path) -> Any:
            raise DiedOrLate("ended its process (SIGSEGV)")

        def close(self) -> None:
            self.closed = True

    runtime: Any = Deadly()
    (tmp_path / "m.tflite").write_bytes(b"\x1c\0\0\0TFL3")
    spec = PrepareSpec(str(tmp_path / "m.tflite"), str(tmp_path / "package"))
    with pytest.raises(InvalidInput, match=r"LiteRT does not run it: ended its process \(SIGSEGV\)"):
        prepare(spec, lambda _stage, _detail: None, SystemClock(), pytest.fail, lambda: runtime)
    assert runtime.closed
    assert list((tmp_path / "package").iterdir()) == []


def test_texts_go_in_and_out_of_a_file(zoo: Any, tmp_path: Path, prepared: Preparer) -> None:
    tf = zoo.tf
    zoo._save(tmp_path / "m", lambda words: {"column": words[:, None]}, tf.TensorSpec([None], tf.string, "words"))
    (tmp_path / "m.tflite").write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "m")).convert())
    manifest = prepared(tmp_path / "m.tflite")
    assert manifest.signatures[0].batched, manifest.plans
    answer = answer_of(prepared, manifest, words=np.array([b"a", b"\xff\0b", b""], object))
    assert answer["column"].tolist() == [[b"a"], [b"\xff\0b"], [b""]]


def test_preparing_a_file_imports_no_tensorflow(files: Any, tmp_path: Path) -> None:
    spec = PrepareSpec(str(files("dense")), str(tmp_path / "package"))
    script = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_module('serving.prepare', run_name='__main__')\n"
        "except SystemExit as end: sys.exit(end.code or ('tensorflow' in sys.modules and 7) or 0)\n"
    )
    command = [sys.executable, "-c", script, *spec.argv()[2:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert read_manifest(tmp_path / "package").plan == "litert"
