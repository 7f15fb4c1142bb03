"""How the control plane asks `serving` to bring a model from elsewhere onto this disk, and which addresses are known.

`python -m serving.fetch` runs in a process of its own with the credentials of whoever asked. It never loads what it
brings, as the process that loads a model never sees a credential. It speaks JSON lines like `contracts.prepare` and
ends with `{"result": {"path": "...", "source": "...", "lineage": {...}}}` or `{"error": {...}}`:

    path      what to prepare: inside `output`, or where it already lies on this machine
    source    the address that was taken, an alias resolved to its version
    lineage   what the place knows about the training, as contracts.package.Lineage; empty when it knows nothing
"""

import re
import sys
from dataclasses import dataclass

BUCKETS = ("s3", "gs", "az")
MLFLOW = ("models", "runs")
_BUCKET = re.compile(rf"({'|'.join(BUCKETS)})://")
_MLFLOW = re.compile(rf"({'|'.join(MLFLOW)}):/")

LOCAL_KINDS = "a SavedModel or MLflow model directory, a .keras or a .tflite file on this machine"
KINDS = f"{LOCAL_KINDS}; s3://, gs:// or az:// with bucket and key; models:/ or runs:/ of MLflow"


def is_bucket(source: str) -> bool:
    return _BUCKET.match(source) is not None


def is_mlflow(source: str) -> bool:
    return _MLFLOW.match(source) is not None


def is_elsewhere(source: str) -> bool:
    """Whether `source` has to be fetched before it can be prepared."""
    return is_bucket(source) or is_mlflow(source)


@dataclass(frozen=True)
class FetchSpec:
    """source      s3://, gs://, az://, models:/ or runs:/ address
    output      empty directory for what is fetched
    mlflow_uri  tracking and registry server of MLflow; None leaves it to MLflow's own environment variables"""

    source: str
    output: str
    mlflow_uri: str | None = None

    def argv(self) -> list[str]:
        argv = [sys.executable, "-m", "serving.fetch", "--source", self.source, "--output", self.output]
        if self.mlflow_uri is not None:
            argv += ["--mlflow-uri", self.mlflow_uri]
        return argv
