"""Installs other people's clients as they are published, beside our own environment and never into it."""

import subprocess
import sys
from pathlib import Path

import pytest

UV = Path(sys.executable).with_name("uv")
TRITON = "tritonclient[grpc,http]==2.73.0"
TFS = "tensorflow-serving-api==2.21.0"


def triton_client(folder: Path) -> Path:
    """The Python of a new environment with Triton's client."""
    _uv("venv", "--quiet", "--python", sys.executable, str(folder))
    python = folder / "bin" / "python"
    _uv("pip", "install", "--quiet", "--python", str(python), TRITON)
    return python


def tfs_client(folder: Path) -> Path:
    """A folder with TensorFlow Serving's client alone: what it needs (TensorFlow, grpcio, protobuf), we have."""
    _uv("pip", "install", "--quiet", "--python", sys.executable, "--target", str(folder), "--no-deps", TFS)
    return folder


def _uv(*arguments: str) -> None:
    run = subprocess.run([str(UV), *arguments], capture_output=True, text=True, timeout=300, check=False)
    if run.returncode:
        pytest.fail(f"a client could not be installed; is the package index reachable? {run.stderr[-1500:]}")
