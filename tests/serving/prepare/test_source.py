"""What may come as a model source, and what is said about everything else."""

import os
import zipfile
from pathlib import Path

import pytest

from contracts.errors import InvalidInput, NotFound, Unsupported
from serving.prepare import layout, source


def saved_model(path: Path) -> Path:
    (path / "variables").mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"graph")
    (path / "variables" / "variables.index").write_bytes(b"index")
    (path / "variables" / "variables.data-00000-of-00001").write_bytes(b"data")
    return path


def test_the_highest_number_is_taken_not_the_last_in_the_alphabet(tmp_path: Path) -> None:
    for version in ("2", "10", "1"):
        saved_model(tmp_path / version)
    assert source.recognise(str(tmp_path)).path == tmp_path / "10"


def test_a_keras_file_is_told_by_its_content(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model", "w") as archive:
        archive.writestr("config.json", "{}")
    assert source.recognise(str(tmp_path / "model")).kind == layout.KIND_KERAS


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model.keras", b"half a zip", "is it still being written"),
        ("model.h5", b"x", "HDF5 models are not read"),
        ("model.tflite", b"x", "expected a TensorFlow Lite file, got 1 bytes"),
    ],
)
def test_other_files_are_named(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((InvalidInput, Unsupported), match=words):
        source.recognise(str(tmp_path / name))


def test_directories_without_a_model_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="got an empty directory"):
        source.recognise(str(tmp_path))
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InvalidInput, match=r"got notes\.txt"):
        source.recognise(str(tmp_path))
    (tmp_path / "7").mkdir()
    with pytest.raises(InvalidInput, match=r"its highest version, 7, has no saved_model\.pb"):
        source.recognise(str(tmp_path))
    with pytest.raises(NotFound):
        source.recognise(str(tmp_path / "8"))


def test_only_the_models_own_files_are_copied(tmp_path: Path) -> None:
    original = saved_model(tmp_path / "model")
    (original / "train.log").write_text("much")
    (original / "assets").mkdir()
    (original / "assets" / "words.txt").write_text("the")
    source.copy_saved_model(original, tmp_path / "copy")
    found = {p.relative_to(tmp_path / "copy").as_posix() for p in (tmp_path / "copy").rglob("*") if p.is_file()}
    data = "variables/variables.data-00000-of-00001"
    assert found == {"saved_model.pb", "variables/variables.index", data, "assets/words.txt"}


def test_the_digest_names_every_byte_and_every_path(tmp_path: Path) -> None:
    a, b = saved_model(tmp_path / "a"), saved_model(tmp_path / "b")
    assert source.digest_of_copy(a) == source.digest_of_copy(b)
    (b / "variables" / "variables.index").write_bytes(b"Index")
    assert source.digest_of_copy(a) != source.digest_of_copy(b)


def test_a_link_out_of_the_model_is_refused_and_one_inside_is_followed(tmp_path: Path) -> None:
    original = saved_model(tmp_path / "model")
    (original / "assets").mkdir()
    (original / "assets" / "inside").symlink_to(original / "saved_model.pb")
    source.copy_saved_model(original, tmp_path / "copy")
    assert not (tmp_path / "copy" / "assets" / "inside").is_symlink()
    (original / "assets" / "outside").symlink_to("/etc/hostname")
    with pytest.raises(InvalidInput, match="assets/outside is a link out of the model"):
        source.copy_saved_model(original, tmp_path / "copy2")


def test_a_pipe_among_the_files_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    original = saved_model(tmp_path / "model")
    (original / "assets").mkdir()
    os.mkfifo(original / "assets" / "pipe")
    with pytest.raises(InvalidInput, match="pipe is no regular file"):
        source.copy_saved_model(original, tmp_path / "copy")


def test_a_source_that_changes_while_it_is_copied_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = saved_model(tmp_path / "model")
    copyfile = source.shutil.copyfile

    def and_meanwhile(a: Path, b: Path) -> None:
        copyfile(a, b)
        (original / "variables" / "variables.index").write_bytes(b"a trainer writes on")

    monkeypatch.setattr(source.shutil, "copyfile", and_meanwhile)
    with pytest.raises(InvalidInput, match=r"variables\.index changed while it was copied"):
        source.copy_saved_model(original, tmp_path / "copy")


def test_missing_shards_are_counted(tmp_path: Path) -> None:
    original = saved_model(tmp_path / "model")
    (original / "variables" / "variables.data-00000-of-00001").rename(
        original / "variables" / "variables.data-00001-of-00003"
    )
    with pytest.raises(InvalidInput, match=r"expected 3 files .* got 1"):
        source.copy_saved_model(original, tmp_path / "copy")
