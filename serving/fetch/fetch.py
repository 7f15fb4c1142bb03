"""One address elsewhere → the model's own files in a directory of this machine. `fetch` is the table of contents.

Looks at names first and brings only what is part of a model that can be served. Loads nothing.
"""

import importlib
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from contracts.errors import InvalidInput, NotFound, Unsupported
from contracts.fetch import KINDS, FetchSpec, is_bucket, is_mlflow
from serving.fetch.bucket import Arrived, Bucket
from serving.fetch.files import Listing, Remote, check
from serving.fetch.traces import mend
from serving.prepare import layout
from serving.prepare.savedmodel import MODEL_FILE
from serving.stores import Address, open_store, parse

Tell = Callable[[str, str], None]
_TOLD_EVERY = 1 << 24  # bytes between two words about progress


@dataclass(frozen=True)
class Fetched:
    """`path` is what to prepare, `source` the address that was taken, `lineage` as contracts.package.Lineage's JSON."""

    path: Path
    source: str
    lineage: Mapping[str, Any] = field(default_factory=dict)


class Place(Protocol):
    """Where files can be listed and brought from: a bucket, or the artifacts of MLflow."""

    def listing(self) -> Listing: ...

    def download(self, files: Sequence[Remote], target: Path, arrived: Arrived) -> None: ...


def fetch(spec: FetchSpec, tell: Tell) -> Fetched:
    """Raises the errors of contracts.errors; what was written by then is left for the caller to remove."""
    output = Path(spec.output)
    if is_mlflow(spec.source):
        return _of_mlflow(spec, output, tell)
    if not is_bucket(spec.source):
        raise InvalidInput(f"source {spec.source[:200]!r} is not supported: expected {KINDS}")
    address = parse(spec.source)
    tell("list", str(address))
    return of_bucket(address, output, tell)


def of_bucket(address: Address, output: Path, tell: Tell, endpoint: str | None = None) -> Fetched:
    """The model at `address`: an object, or a directory in one of the layouts that prepare knows."""
    parent, _, name = address.key.rpartition("/")
    if name.endswith((".h5", ".hdf5")):
        raise Unsupported(
            f"source {address}: HDF5 models are not read: load it and save it again with model.export(…) or as .keras"
        )
    store = open_store(address, endpoint=endpoint)
    above = Bucket(store, Address(address.scheme, address.bucket, parent))
    if name == MODEL_FILE:
        return of_place(above, above.address, output, tell)
    single = above.file(name) if name.endswith(tuple(layout.FILE_KINDS)) else None
    if single is None:
        try:
            return of_place(Bucket(store, address), address, output, tell)
        except NotFound:
            single = above.file(name) if name else None
            if single is None:
                raise
    path = _bring(above, [single], str(address), output, tell) / single.path
    return Fetched(path, str(address))


def of_place(place: Place, address: object, output: Path, tell: Tell) -> Fetched:
    """The model among what is listed at `place`, which people know as `address`."""
    listing = place.listing()
    found = layout.find(listing, str(address))
    taken = f"{str(address).rstrip('/')}/{found.path}" if found.mlflow is None and found.path else str(address)
    files = [file for file in listing.files.values() if found.wants(file.path)]
    root = _bring(place, files, taken, output, tell)
    return Fetched(root if found.mlflow is not None else root / found.path, taken)


def _bring(place: Place, files: Sequence[Remote], source: str, output: Path, tell: Tell) -> Path:
    checked = check(files, source, shutil.disk_usage(output).free)
    total = sum(file.size for file in checked)
    tell("fetch", f"{source}, {len(checked)} file{'s' * (len(checked) != 1)}, {_size(total)}")
    place.download(checked, output, _Progress(total, tell))
    return output


class _Progress:
    """Says now and then how much has arrived. Called from the threads that fetch."""

    def __init__(self, total: int, tell: Tell) -> None:
        self._total, self._tell = total, tell
        self._done = self._told = 0
        self._lock = threading.Lock()

    def __call__(self, more: int) -> None:
        with self._lock:
            self._done += more
            if self._done - self._told < _TOLD_EVERY and self._done < self._total:
                return
            self._told = self._done
            self._tell("fetch", f"{_size(self._done)} of {_size(self._total)}")


def _size(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB" if count >= 1 << 20 else f"{count / 1024:.1f} KiB"


def _of_mlflow(spec: FetchSpec, output: Path, tell: Tell) -> Fetched:
    tell("list", spec.source)
    # By name: only who has models in MLflow needs the extra, and only this process imports it, which takes seconds.
    mend()
    try:
        mlflow_place = importlib.import_module("serving.fetch.mlflow_place")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("mlflow"):
            raise
        raise Unsupported(f"source {spec.source}: MLflow is not installed: pip install 'teal[mlflow]'") from None
    resolved = mlflow_place.resolve(spec.source, spec.mlflow_uri)
    location = str(resolved.location)
    if is_bucket(location):
        fetched = of_bucket(parse(location), output, tell, resolved.endpoint)
        return Fetched(fetched.path, resolved.source, resolved.lineage)
    if resolved.local is not None:
        return Fetched(resolved.local, resolved.source, resolved.lineage)
    fetched = of_place(mlflow_place.Artifacts(location), resolved.source, output, tell)
    return Fetched(fetched.path, resolved.source, resolved.lineage)
