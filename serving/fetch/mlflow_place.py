"""Where MLflow keeps a model, and what it knows about its training. Imports MLflow, in the process that fetches only.

MLflow is asked for names, facts and bytes. Nothing it stores is loaded here or anywhere: no pickle, no python_function.
"""

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# Before the import, which reads them. Nobody asked for statistics to be sent, nor to wait minutes for a server that is
# not there; a store of files is only read, which is what MLflow's own migration asks people to go on doing.
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from contracts.errors import InvalidInput, NotFound, TealError, Unavailable
from contracts.fetch import is_bucket
from serving.fetch.bucket import Arrived
from serving.fetch.files import MAX_LISTED, Listing, Remote
from serving.fetch.mlflow_lineage import Training, lineage_of, redacted

_MODEL = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))")
_LOGGED_MODEL = re.compile(r"models:/(?P<id>m-[0-9a-f]+)")
_RUN = re.compile(r"runs:/(?P<id>[^/]+)/(?P<path>.+)")
_PROXIED = "mlflow-artifacts"


@dataclass(frozen=True)
class Resolved:
    """`location` is the address of the artifacts; `local` the same as a path where they lie on this machine.
    `endpoint` is where their bucket is, when MLflow was told another place than the cloud's own."""

    source: str
    location: str
    local: Path | None
    endpoint: str | None
    lineage: Mapping[str, Any]


def resolve(source: str, uri: str | None) -> Resolved:
    """Ask MLflow's servers. Raise InvalidInput for an address that is none, NotFound for what MLflow does not know,
    Unavailable when it does not answer."""
    tracking = uri or os.environ.get("MLFLOW_TRACKING_URI") or _usual_place()
    registry = uri or os.environ.get("MLFLOW_REGISTRY_URI") or tracking
    for place in {tracking, registry}:
        _must_exist(place)
    os.environ["MLFLOW_TRACKING_URI"], os.environ["MLFLOW_REGISTRY_URI"] = tracking, registry  # its artifact code asks
    try:
        client = MlflowClient(tracking_uri=tracking, registry_uri=registry)
        taken, location, training = _find(client, source)
    except MlflowException as error:
        raise _as_teal_error(error, source, tracking, registry) from error
    except ModuleNotFoundError as error:  # drivers of databases
        raise Unavailable(
            f"source {source}: reading {redacted(tracking)} needs the package {error.name}: install it, or name an "
            "MLflow server with --mlflow-uri"
        ) from error
    local = _local(location)
    _check_location(location, local, tracking, source)
    location = re.sub(r"^s3[an]://", "s3://", location)
    endpoint = os.environ.get("MLFLOW_S3_ENDPOINT_URL") if location.startswith("s3://") else None
    return Resolved(taken, location, local, endpoint, lineage_of(training, redacted(tracking)))


def _usual_place() -> str:
    """What MLflow itself would take, except that looking must not make a new database."""
    if Path("mlflow.db").is_file():
        return "sqlite:///mlflow.db"
    if Path("mlruns").is_dir():
        return "mlruns"
    raise InvalidInput(
        "no MLflow server is known: set MLFLOW_TRACKING_URI or give --mlflow-uri, e.g. http://mlflow:5000"
    )


def _must_exist(place: str) -> None:
    """A database or directory that is not there is a mistyped one; MLflow would make it."""
    if place.startswith("sqlite:"):
        path = Path(re.sub(r"^sqlite:/{0,3}", "", place).split("?")[0])
        if not path.is_file():
            raise NotFound(f"MLflow's database {path} does not exist: check MLFLOW_TRACKING_URI or --mlflow-uri")
    elif (local := _local(place)) is not None and not local.is_dir():
        raise NotFound(f"MLflow's directory {local} does not exist: check MLFLOW_TRACKING_URI or --mlflow-uri")


def _local(location: str) -> Path | None:
    parts = urlsplit(location)
    if parts.scheme not in ("", "file") or location.startswith("databricks"):
        return None
    return Path(location.removeprefix("file://").removeprefix("file:"))


def _check_location(location: str, local: Path | None, tracking: str, source: str) -> None:
    """A registry says where its models lie, and a stranger may have written that: no other host is called for it, and
    nothing on this machine is opened because a server elsewhere says so, unless it is a model's own directory."""
    if is_bucket(re.sub(r"^s3[an]:", "s3:", location)):
        return
    if local is not None:
        if not (local / "MLmodel").is_file():
            raise NotFound(f"source {source}: MLflow keeps it at {local}, where there is no MLmodel on this machine")
        return
    parts = urlsplit(location)
    same_host = parts.hostname is None or parts.hostname == urlsplit(tracking).hostname
    if parts.scheme in (_PROXIED, "http", "https") and same_host:
        return
    raise InvalidInput(
        f"source {source}: MLflow keeps it at {parts.scheme}://{parts.hostname or ''}, expected a bucket (s3, gs), a "
        "directory, or the MLflow server itself: fetch it with `mlflow artifacts download` and register the directory"
    )


def _find(client: MlflowClient, source: str) -> tuple[str, str, Training]:
    """The address with everything resolved, where the artifacts are, and what is known."""
    if (found := _LOGGED_MODEL.fullmatch(source)) is not None:
        logged = client.get_logged_model(found["id"])
        return source, logged.artifact_location, _training(client, logged.source_run_id, logged=logged)
    if (found := _MODEL.fullmatch(source)) is not None:
        return _registered(client, found)
    if (found := _RUN.fullmatch(source)) is not None:
        run = client.get_run(found["id"])
        return source, _artifacts_of_run(client, run, found["path"]), Training(run, _experiment(client, run))
    raise InvalidInput(
        f"source {source[:200]!r}: expected models:/name/3, models:/name@alias, models:/m-<id> or runs:/<id>/path"
    )


def _registered(client: MlflowClient, asked: re.Match[str]) -> tuple[str, str, Training]:
    name = asked["name"]
    if asked["alias"] is not None:
        version = client.get_model_version_by_alias(name, asked["alias"])
    elif asked["version"].isdecimal():
        version = client.get_model_version(name, asked["version"])
    else:
        version = _latest(client, name, asked["version"])
    version = client.get_model_version(name, str(version.version))  # with its aliases, however it was found
    location = client.get_model_version_download_uri(name, str(version.version))
    logged = None
    # Stores differ in which of the two names the logged model of MLflow 3; from before there is none.
    found = _LOGGED_MODEL.fullmatch(location) or _LOGGED_MODEL.fullmatch(version.source or "")
    if found is not None:
        logged = client.get_logged_model(found["id"])
        location = logged.artifact_location
    taken = f"models:/{name}/{version.version}"
    return taken, location, _training(client, version.run_id, logged=logged, version=version)


def _latest(client: MlflowClient, name: str, stage: str) -> Any:
    """`latest`, or the name of a stage, which older servers still have."""
    found = list(client.search_model_versions(f"name = '{name}'"))
    if stage != "latest":
        found = [version for version in found if (version.current_stage or "").lower() == stage.lower()]
    if not found:
        raise NotFound(f"MLflow has no version of model {name!r} called {stage!r}")
    return max(found, key=lambda version: int(version.version))


def _training(client: MlflowClient, run_id: str | None, **known: Any) -> Training:
    """The run may be deleted, or on another server than the registry: the model is served all the same."""
    run_id = run_id or (known["logged"].source_run_id if known.get("logged") is not None else None)
    if not run_id:
        return Training(**known)
    try:
        run = client.get_run(run_id)
    except MlflowException:
        return Training(**known, run_id=run_id)
    return Training(run, _experiment(client, run), **known)


def _experiment(client: MlflowClient, run: Run) -> str | None:
    try:
        return str(client.get_experiment(run.info.experiment_id).name)
    except MlflowException:
        return None


def _artifacts_of_run(client: MlflowClient, run: Run, path: str) -> str:
    """MLflow 3 keeps logged models beside their runs; before, and for plain artifacts, they are inside."""
    path = path.strip("/")
    if (location := _logged_by(client, run, path)) is not None:
        return location
    if not client.list_artifacts(run.info.run_id, path):
        raise NotFound(f"MLflow's run {run.info.run_id} has no artifact and no model {path!r}")
    return f"{run.info.artifact_uri.rstrip('/')}/{path}"


def _logged_by(client: MlflowClient, run: Run, name: str) -> str | None:
    if not re.fullmatch(r"[\w .-]+", name):
        return None  # no name of a model, and a quote would end the question below
    asked = f"source_run_id = '{run.info.run_id}' AND name = '{name}'"
    try:
        found = client.search_logged_models([run.info.experiment_id], filter_string=asked)
    except MlflowException:  # a server from before MLflow 3
        return None
    return str(max(found, key=lambda model: model.creation_timestamp).artifact_location) if found else None


def _as_teal_error(error: MlflowException, source: str, tracking: str, registry: str) -> TealError:
    servers = " and ".join(sorted({redacted(tracking), redacted(registry)}))
    text = redacted(str(error).splitlines()[0][:300])
    if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND") or ("alias" in text and "not found" in text):
        return NotFound(f"source {source}: MLflow at {servers} does not know it: {text}")
    if error.error_code == "INVALID_PARAMETER_VALUE":
        return InvalidInput(f"source {source}: {text}")
    for sign, words in (
        ("error code 401", "refused the credentials: check MLFLOW_TRACKING_TOKEN, or _USERNAME and _PASSWORD"),
        ("error code 403", "denied access: check what your user may read"),
        ("Connection refused", "refused the connection: check the address and that it runs"),
        ("resolve", "has a host nobody knows: check the address and the network"),
    ):
        if sign in str(error):
            return Unavailable(f"source {source}: MLflow at {servers} {words}")
    return Unavailable(f"source {source}: MLflow at {servers} answered with an error: {text}")


class Artifacts:
    """The artifacts at a location that MLflow itself serves, as fetch.Place."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._repository = get_artifact_repository(location)

    def listing(self) -> Listing:
        files: list[Remote] = []
        left = [""]
        while left:
            below = left.pop()
            for entry in self._asked(self._repository.list_artifacts, below or None):
                if entry.is_dir:
                    left.append(entry.path)
                else:
                    files.append(Remote(entry.path, int(entry.file_size or 0)))
            if len(files) + len(left) > MAX_LISTED:
                raise InvalidInput(f"more than {MAX_LISTED} artifacts are below {redacted(self._location)}")
        return Listing(files, self._read)

    def download(self, files: Sequence[Remote], target: Path, arrived: Arrived) -> None:
        for file in files:
            self._asked(self._repository.download_artifacts, file.path, str(target))
            if (size := (target / file.path).stat().st_size) != file.size:
                raise InvalidInput(f"{file.path}: expected {file.size} bytes from MLflow, got {size}: register again")
            arrived(file.size)

    def _read(self, file: Remote, _size: int) -> bytes:
        with tempfile.TemporaryDirectory() as aside:
            return Path(self._asked(self._repository.download_artifacts, file.path, aside)).read_bytes()

    def _asked(self, method: Any, *args: Any) -> Any:
        try:
            return method(*args)
        except MlflowException as error:
            where = redacted(self._location)
            raise Unavailable(f"MLflow's artifacts at {where}: {redacted(str(error).splitlines()[0][:300])}") from error
