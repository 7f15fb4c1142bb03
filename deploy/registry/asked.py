"""What somebody asks to register, as one value from the command line to the registry. What it means is sources.py."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Asked:
    """source   a model on this machine, in a bucket or in MLflow
    samples, lineage, preprocessing    files beside it; see contracts.prepare.PrepareSpec
    reduced_precision    also try plans that compute less precisely
    mlflow_uri    MLflow's server; None: what the environment says
    """

    source: Path | str
    samples: Path | None = None
    lineage: Path | None = None
    preprocessing: Path | None = None
    reduced_precision: bool = False
    mlflow_uri: str | None = None
