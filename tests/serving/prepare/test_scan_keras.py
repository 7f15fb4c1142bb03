"""A .keras file is refused for what it would do, before Keras sees it."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from contracts.errors import InvalidInput
from serving.prepare.scan_keras import refuse_unsafe_keras


def layer(class_name: str, module: str | None = "keras.layers", **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": class_name, "config": config, "registered_name": None}


def model_config(*layers: Mapping[str, Any]) -> dict[str, Any]:
    return layer("Sequential", "keras", name="sequential", layers=list(layers))


def weights(fill: Any = None) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["layers/dense/vars/0"] = np.ones((4, 2), np.float32)
        if fill is not None:
            fill(file)
    return buffer.getvalue()


def keras_file(path: Path, config: Any, h5: bytes | None = None, extra: Mapping[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights() if h5 is None else h5)
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    return path


def scan(tmp_path: Path, *args: Any, **kwargs: Any) -> None:
    refuse_unsafe_keras(keras_file(tmp_path / "model.keras", *args, **kwargs), tmp_path)


DENSE = layer("Dense", units=2, kernel_initializer=layer("GlorotUniform", "keras.initializers"))


def test_ordinary_layers_pass_and_the_scan_leaves_nothing_behind(tmp_path: Path) -> None:
    scan(tmp_path, model_config(DENSE, layer("Add", "keras.src.ops.numpy")))
    assert [p.name for p in tmp_path.iterdir()] == ["model.keras"]


def test_a_custom_loss_does_no_harm_because_training_is_not_loaded(tmp_path: Path) -> None:
    config = model_config(DENSE) | {"compile_config": {"loss": layer("MyLoss", "mine")}}
    scan(tmp_path, config)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (layer("Lambda", function="…"), "Lambda carries code"),
        (layer("TFSMLayer", filepath="/tmp/x"), "TFSMLayer carries code"),
        (layer("system", "os"), "comes from 'os'"),
        (layer("get_file", "keras.utils"), "comes from 'keras.utils'"),
        (layer("Dense", "keras_nlp.layers"), "comes from 'keras_nlp.layers'"),
        (layer("Dense", None), "comes from 'None'"),
        (layer("__lambda__", None), "comes from 'None'"),
        (layer("utils.get_file", "keras"), "carries code"),
        (
            {"module": "keras", "class_name": "function", "config": "utils.get_file"},
            "function comes from 'keras'",
        ),
        (
            {"module": "keras.ops", "class_name": "function", "config": "a.b"},
            "is not a name of keras.ops",
        ),
        (layer("StringLookup", vocabulary="/etc/passwd"), "vocabulary is read from the file"),
        (layer("Dense", name="../../evil"), "could be read as a path"),
        (layer("TimeDistributed", layer=layer("Lambda")), "Lambda carries code"),
    ],
)
def test_what_carries_code_or_reads_files_is_refused_however_deep(bad: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=words.replace(".", r"\.")):
        scan(tmp_path, model_config(DENSE, layer("Sequential", "keras", layers=[bad])))


def external_link(file: Any) -> None:
    file["stolen"] = h5py.ExternalLink("/etc/passwd", "/")


def soft_link(file: Any) -> None:
    file["alias"] = h5py.SoftLink("/layers")


def external_data(file: Any) -> None:
    file.create_dataset("stolen", (64,), "u1", external=[("/etc/passwd", 0, 64)])


def huge_shape(file: Any) -> None:
    file.create_dataset("huge", (1 << 40,), "f4", chunks=(1024,))


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (external_link, "a link at /stolen"),
        (soft_link, "a link at /alias"),
        (external_data, "keeps /stolen in another file"),
        (huge_shape, "declares 4398046511136 bytes"),
    ],
)
def test_weights_must_be_in_the_file_and_of_its_size(fill: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=words):
        scan(tmp_path, model_config(DENSE), weights(fill))


def test_groups_that_hold_each_other_do_not_go_on_for_ever(tmp_path: Path) -> None:
    def ring(file: Any) -> None:
        file["layers/dense/up"] = file["layers"]

    scan(tmp_path, model_config(DENSE), weights(ring))


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "assets/../../evil", "code.py"])
def test_entries_that_do_not_belong_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="entry"):
        scan(tmp_path, model_config(DENSE), extra={name: b"x"})


def test_a_zip_bomb_is_refused_without_unpacking_it(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(30_000_000))
    with pytest.raises(InvalidInput, match="unpacks from"):
        refuse_unsafe_keras(path, tmp_path)


@pytest.mark.parametrize("config", ["no object", {"no": "class"}, []])
def test_a_configuration_that_is_no_model_is_refused(config: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="does not describe a model"):
        scan(tmp_path, config)


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is damaged"):
        scan(tmp_path, model_config(DENSE), b"no HDF5")


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    path = keras_file(tmp_path / "model.keras", model_config(DENSE))
    content = bytearray(path.read_bytes())
    content[content.find(b"Dense")] ^= 1
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="archive is damaged"):
        refuse_unsafe_keras(path, tmp_path)
