"""Sample inputs as an .npz file: what prepare writes into a package and the worker warms up with.

Array names are `<signature>/inputs/<alias>` and `<signature>/outputs/<alias>`, rows first. Strings are kept as two
arrays, `…/bytes` and `…/lengths`, because numpy's own object arrays need pickle, which no package may hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from serving.engine.base import Array


@dataclass(frozen=True)
class Samples:
    """Inputs of one signature and the reference's outputs for them (empty when nobody computed any)."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


def write_samples(target: Path | BinaryIO, samples: Mapping[str, Samples]) -> None:
    """Write all signatures' samples into one .npz; dtypes numpy has no portable form for raise ValueError."""
    flat: dict[str, Any] = {}
    for signature, sample in samples.items():
        for kind, arrays in (("inputs", sample.inputs), ("outputs", sample.outputs)):
            for alias, array in arrays.items():
                flat.update(_pack(f"{signature}/{kind}/{alias}", np.asarray(array)))
    if isinstance(target, Path):
        with target.open("wb") as stream:
            np.savez(stream, **flat)
    else:
        np.savez(target, **flat)


def read_samples(source: Path | BinaryIO) -> dict[str, Samples]:
    """Read what write_samples wrote. Never unpickles."""
    found: dict[str, dict[str, dict[str, Array]]] = {}
    with np.load(source, allow_pickle=False) as stored:
        for key in stored.files:
            signature, kind, alias = key.split("/", 2)
            if alias.endswith("/lengths"):
                continue
            value = stored[key]
            if alias.endswith("/bytes"):
                alias = alias.removesuffix("/bytes")
                value = _unpack(value, stored[f"{signature}/{kind}/{alias}/lengths"])
            found.setdefault(signature, {"inputs": {}, "outputs": {}})[kind][alias] = value
    return {name: Samples(kinds["inputs"], kinds["outputs"]) for name, kinds in found.items()}


def _pack(key: str, array: Array) -> dict[str, Array]:
    if array.dtype.kind in "biufc":
        return {key: array}
    if array.dtype.kind not in "OSU":
        raise ValueError(f"sample {key} has dtype {array.dtype}, which an .npz cannot hold")
    items = [item.encode() if isinstance(item, str) else bytes(item) for item in array.ravel().tolist()]
    lengths = np.array([len(item) for item in items], np.int64).reshape(array.shape)
    return {f"{key}/bytes": np.frombuffer(b"".join(items), np.uint8), f"{key}/lengths": lengths}


def _unpack(joined: Array, lengths: Array) -> Array:
    whole = joined.tobytes()
    ends = np.cumsum(lengths.ravel())
    items = np.empty(lengths.size, object)
    for i, (end, length) in enumerate(zip(ends.tolist(), lengths.ravel().tolist(), strict=True)):
        items[i] = whole[end - length : end]
    return items.reshape(lengths.shape)
