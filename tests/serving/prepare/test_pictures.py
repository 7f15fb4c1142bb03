"""A declaration about pictures: into the package, into its digest, and what a real worker makes of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.clock import SystemClock
from contracts.errors import InvalidInput
from contracts.package import read_manifest, verify
from contracts.prepare import PrepareSpec
from contracts.preprocessing import Preprocessing
from serving.prepare.isolated import Inline
from serving.prepare.runtime_litert import IsolatedLitert
from serving.prepare.steps import prepare
from tests.serving.packages import Package
from tests.serving.pictures import jpeg, photo, png
from tests.serving.process import worker

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def brightness(zoo: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers the mean of each channel of a picture of any size."""
    tf = zoo.tf
    path: Path = tmp_path_factory.mktemp("brightness") / "model.tflite"
    module = tf.Module()
    spec = tf.TensorSpec([None, None, None, 3], tf.float32, "image")
    module.f = tf.function(lambda image: {"means": tf.reduce_mean(image, [1, 2])}, input_signature=[spec])
    concrete = module.f.get_concrete_function()
    tf.saved_model.save(module, str(path.parent / "saved"), signatures=concrete)
    path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(path.parent / "saved")).convert())
    return path


def _no_tensorflow() -> Any:
    raise AssertionError("a .tflite file needs no TensorFlow")


def prepared(model: Path, root: Path, declared: Any) -> Package:
    file = root / "pictures.json"
    file.write_text(json.dumps(declared))
    spec = PrepareSpec(str(model), str(root / "package"), preprocessing=str(file))
    made = prepare(spec, lambda *_: None, SystemClock(), _no_tensorflow, lambda: IsolatedLitert(Inline()))
    return Package(root / "package", made.digest)


def test_a_worker_takes_pictures_as_the_package_declares(brightness: Path, tmp_path: Path) -> None:
    declared = {"size": [30, 40], "channels": "BGR", "resize": "area", "mean": [0, 10, 20], "std": 2}
    package = prepared(brightness, tmp_path, declared)
    manifest = verify(package.root, package.digest)
    assert manifest.preprocessing == Preprocessing(
        size=(30, 40), channels="BGR", resize="area", mean=(0.0, 10.0, 20.0), std=(2.0,)
    )
    large = photo(600, 800)  # decoded in a thread
    with worker(package, tmp_path, threads=1) as running:
        for body, kind in ((png(large), "image/png"), (jpeg(large), "image/jpeg"), (png(photo(60, 80)), "image/png")):
            answer = running.predict(body, headers={"content-type": kind})
            assert answer.status_code == 200, answer.text
            (means,) = answer.json()["predictions"]
            pixels = photo(60, 80) if body == png(photo(60, 80)) else large
            wanted = (pixels.mean((0, 1))[::-1] - [0, 10, 20]) / 2
            np.testing.assert_allclose(means, wanted, atol=0.5)
        refused = running.predict(b"\xff\xd8\xff" + b"0" * 100, headers={"content-type": "image/jpeg"})
        assert refused.status_code == 400
        assert running.http.get("/v2/health/ready").status_code == 200


def test_a_declaration_that_does_not_fit_the_model_ends_preparing_and_leaves_nothing(
    brightness: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match='field "size"'):
        prepared(brightness, tmp_path, {"channels": "RGB"})
    assert list((tmp_path / "package").iterdir()) == []


def test_the_declaration_is_part_of_what_a_version_is(brightness: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = prepared(brightness, tmp_path / "a", {"size": 32, "channels": "RGB"})
    second = prepared(brightness, tmp_path / "b", {"size": 32, "channels": "BGR"})
    assert first.digest != second.digest
    assert read_manifest(first.root).preprocessing != read_manifest(second.root).preprocessing
