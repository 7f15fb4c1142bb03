"""A full disk while registering, on a real full file system: one sentence, no version, and predictions go on."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from loadtests.load import Load
from loadtests.openloop import load_in_thread
from tests.e2e.gateway import Gateway, Ran, running

pytestmark = pytest.mark.e2e

DISK_MIB = 16  # the seed home takes one; logs and the database's journal stay far below the rest
KIB = 1024


@dataclass(frozen=True)
class Disk:
    """A small file system of its own; the home is its root."""

    path: Path

    @property
    def free(self) -> int:
        now = os.statvfs(self.path)
        return now.f_bavail * now.f_frsize

    def fill(self, leave: int) -> None:
        """Take all space but `leave` bytes."""
        with (self.path / "ballast").open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, self.free - leave)

    def release(self) -> None:
        (self.path / "ballast").unlink()


@pytest.fixture
def disk(seed_home: Path, tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = _run("mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "teal-full-disk", str(place))
    if mounted.returncode != 0:
        pytest.skip(f"this machine lets nobody mount a file system: {mounted.stderr.strip()}")
    try:
        shutil.copytree(seed_home, place, dirs_exist_ok=True)
        yield Disk(place)
    finally:
        if _run("umount", str(place)).returncode != 0:  # somebody still holds a file: gone with the last of them
            _run("umount", "--lazy", str(place))


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False)


def register(gateway: Gateway, trained: Path) -> Ran:
    return gateway.teal("register", "digits", str(trained / "conv"), "--json", timeout=300)


def versions(gateway: Gateway) -> list[int]:
    return [v["version"] for v in gateway.must("models", "digits")["versions"]]


@pytest.mark.parametrize("leave", [0, 64 * KIB, 256 * KIB], ids=lambda size: f"{size // KIB} KiB free")
def test_a_model_that_does_not_fit_is_refused_in_a_sentence_and_predictions_go_on(
    disk: Disk, trained: Path, images: np.ndarray, leave: int
) -> None:
    with running(disk.path) as gateway:
        gateway.must("deploy", "digits", "1")
        before = gateway.status()
        body = json.dumps({"instances": images[:1].tolist()}).encode()
        load = Load(f"{gateway.url}/v1/models/digits:predict", 50, 300, body=body)
        with load_in_thread(load) as outcomes:
            disk.fill(leave)
            refused = register(gateway, trained)
            assert refused.code == 1, (refused.out, refused.err)
            (sentence,) = refused.err.strip().splitlines()
            assert "no space left" in sentence
            assert "Traceback" not in sentence
            assert versions(gateway) == [1, 2]
            assert gateway.status() == before

            disk.release()
            accepted = register(gateway, trained)
            assert accepted.code == 0, accepted.err
            assert accepted.json["version"] == 3
            assert versions(gateway) == [1, 2, 3]
        (outcome,) = outcomes.result()
        assert outcome.sent > 0
        assert outcome.failures == {}
        assert not list((disk.path / "packages" / ".staging").iterdir()), "what did not fit is not left behind"
        assert gateway.must("deploy", "digits", "3", "--strategy", "manual")["candidate"]["version"] == 3
