"""Reads `saved_model.pb` without TensorFlow: tags, signatures, nodes, functions, assets.

Reading is only parsing: nothing of the model runs, so the static scan can judge a stranger's file first, and a source
that is refused costs nobody TensorFlow's import. The table below holds the field numbers that are asked for (from
TensorFlow's saved_model.proto, meta_graph.proto, graph.proto).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from contracts.errors import InvalidInput, Unsupported
from contracts.signature import DEFAULT_SIGNATURE, Signature, TensorSpec
from serving.codec.tensorproto import DTYPES
from serving.prepare.protos import Messages, message_class

SERVE_TAG = "serve"
MODEL_FILE = "saved_model.pb"
_INIT_SIGNATURES = frozenset({"__saved_model_init_op", "__saved_model_train_op"})  # TensorFlow's own, never called

_MESSAGES: Messages = {
    "SavedModel": {"meta_graphs": (2, "MetaGraph", True)},
    "MetaGraph": {
        "meta_info": (1, "MetaInfo", False),
        "graph": (2, "Graph", False),
        "saver": (3, "Saver", False),
        "collections": (4, "CollectionEntry", True),
        "signatures": (5, "SignatureEntry", True),
        "assets": (6, "Asset", True),
    },
    "MetaInfo": {"tags": (4, "string", True), "tensorflow_version": (5, "string", False)},
    "Saver": {"filename": (1, "string", False), "save": (2, "string", False), "restore": (3, "string", False)},
    "CollectionEntry": {"key": (1, "string", False), "value": (2, "Collection", False)},
    "Collection": {"nodes": (1, "NodeNames", False)},
    "NodeNames": {"value": (1, "string", True)},
    "Asset": {"tensor": (1, "TensorInfo", False), "filename": (2, "string", False)},
    "SignatureEntry": {"key": (1, "string", False), "value": (2, "Signature", False)},
    "Signature": {
        "inputs": (1, "TensorEntry", True),
        "outputs": (2, "TensorEntry", True),
        "method_name": (3, "string", False),
    },
    "TensorEntry": {"key": (1, "string", False), "value": (2, "TensorInfo", False)},
    "TensorInfo": {
        "name": (1, "string", False),
        "dtype": (2, "int32", False),
        "shape": (3, "Shape", False),
        "sparse": (4, "Sparse", False),
        "composite": (5, "Composite", False),
    },
    "Sparse": {"values": (1, "string", False)},
    "Composite": {"components": (2, "TensorInfo", True)},
    "Shape": {"dims": (2, "Dim", True), "unknown_rank": (3, "bool", False)},
    "Dim": {"size": (1, "int64", False)},
    "Graph": {"nodes": (1, "Node", True), "library": (2, "Library", False)},
    "Library": {"functions": (1, "Function", True)},
    "Function": {"signature": (1, "FunctionName", False), "nodes": (3, "Node", True)},
    "FunctionName": {"name": (1, "string", False), "inputs": (2, "FunctionInput", True)},
    "FunctionInput": {"name": (1, "string", False)},
    "Node": {
        "name": (1, "string", False),
        "op": (2, "string", False),
        "inputs": (3, "string", True),
        "attrs": (5, "AttrEntry", True),
    },
    "AttrEntry": {"key": (1, "string", False), "value": (2, "Attr", False)},
    "Attr": {"list": (1, "AttrList", False), "text": (2, "bytes", False), "function": (10, "FunctionRef", False)},
    "AttrList": {"functions": (9, "FunctionRef", True)},
    "FunctionRef": {"name": (1, "string", False)},
}


_SAVED_MODEL = message_class("teal.saved_model", _MESSAGES, "SavedModel")


@dataclass(frozen=True)
class Node:
    """One operation. `functions` are the functions its attributes name, `texts` its text attributes."""

    name: str
    op: str
    inputs: tuple[str, ...]
    functions: tuple[str, ...]
    texts: Mapping[str, bytes]


@dataclass(frozen=True)
class Function:
    name: str
    arguments: tuple[str, ...]
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class MetaGraph:
    """One graph of the file, as far as prepare asks.

    `saver_nodes` save and restore variables; `signature_nodes` and `init_nodes` are where serving and loading begin;
    `asset_nodes` hold the paths of asset files, which TensorFlow fills in while loading."""

    tags: frozenset[str]
    tensorflow_version: str
    nodes: tuple[Node, ...]
    functions: Mapping[str, Function]
    signatures: tuple[Signature, ...]
    signature_nodes: frozenset[str]
    init_nodes: frozenset[str]
    saver_nodes: frozenset[str]
    asset_nodes: frozenset[str]


def read(path: Path) -> tuple[MetaGraph, ...]:
    """Parse the file at `path`: the graph to serve first, then any other (to be scanned all the same).
    Raise InvalidInput when it is not a whole SavedModel with signatures to serve."""
    message = _SAVED_MODEL()
    data = path.read_bytes()
    if not data:
        raise InvalidInput(f"{MODEL_FILE}: expected a SavedModel, got an empty file: export the model again")
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise InvalidInput(
            f"{MODEL_FILE}: expected a SavedModel, got {len(data)} bytes that do not parse as one: "
            "the file is truncated or of another kind; export the model again"
        ) from None
    graphs = sorted((_meta_graph(g) for g in message.meta_graphs), key=lambda g: (SERVE_TAG not in g.tags, len(g.tags)))
    if not graphs or SERVE_TAG not in graphs[0].tags:
        found = sorted({tag for g in graphs for tag in g.tags})
        raise InvalidInput(
            f'{MODEL_FILE}: expected a graph with the tag "{SERVE_TAG}", got {found or "no graph at all"}: '
            "export the model with signatures for serving"
        )
    if not graphs[0].signatures:
        raise InvalidInput(
            f"{MODEL_FILE}: expected at least one signature, got none: "
            "export with model.export(…) or tf.saved_model.save(model, path, signatures=…)"
        )
    return tuple(graphs)


def _meta_graph(graph: Any) -> MetaGraph:
    collections = {entry.key: entry.value.nodes.value for entry in graph.collections}
    named = [*collections.get("saved_model_main_op", ()), *collections.get("legacy_init_op", ())]
    init = [info.name for e in graph.signatures if e.key in _INIT_SIGNATURES for info in _tensors(e.value)]
    served = [e for e in graph.signatures if e.key not in _INIT_SIGNATURES]
    saver = (graph.saver.filename, graph.saver.save, graph.saver.restore)
    return MetaGraph(
        tags=frozenset(graph.meta_info.tags),
        tensorflow_version=graph.meta_info.tensorflow_version,
        nodes=tuple(_node(n) for n in graph.graph.nodes),
        functions={f.signature.name: _function(f) for f in graph.graph.library.functions},
        signatures=_signatures(served),
        signature_nodes=frozenset(node_of(t.name) for e in served for t in _tensors(e.value)),
        init_nodes=frozenset(node_of(name) for name in (*named, *init)),
        saver_nodes=frozenset(node_of(name) for name in saver if name),
        asset_nodes=frozenset(node_of(a.tensor.name) for a in graph.assets),
    )


def node_of(reference: str) -> str:
    """The node a tensor or control reference is about: "^init" → "init", "dense:0" → "dense"."""
    return reference.removeprefix("^").split(":")[0]


def _tensors(signature: Any) -> list[Any]:
    return [entry.value for entry in (*signature.inputs, *signature.outputs)]


def _function(message: Any) -> Function:
    arguments = tuple(a.name for a in message.signature.inputs)
    return Function(message.signature.name, arguments, tuple(_node(n) for n in message.nodes))


def _node(message: Any) -> Node:
    functions: list[str] = []
    texts: dict[str, bytes] = {}
    for entry in message.attrs:
        if entry.value.function.name:
            functions.append(entry.value.function.name)
        functions.extend(f.name for f in entry.value.list.functions)
        if entry.value.text:
            texts[entry.key] = entry.value.text
    return Node(message.name, message.op, tuple(message.inputs), tuple(functions), texts)


def _signatures(entries: list[Any]) -> tuple[Signature, ...]:
    found = [
        Signature(
            name=entry.key,
            inputs=_specs(entry.key, "input", entry.value.inputs),
            outputs=_specs(entry.key, "output", entry.value.outputs),
            batched=False,  # until rows were measured not to influence each other
            method_name=entry.value.method_name or "tensorflow/serving/predict",
        )
        for entry in entries
    ]
    return tuple(sorted(found, key=lambda s: (s.name != DEFAULT_SIGNATURE, s.name)))


def _specs(signature: str, role: str, entries: Any) -> tuple[TensorSpec, ...]:
    specs = []
    for entry in sorted(entries, key=lambda e: e.key):
        info = entry.value
        where = f'signature "{signature}": {role} "{entry.key}"'
        if info.sparse.values or info.composite.components:
            raise Unsupported(f"{where} is a sparse or composite tensor: only dense tensors can be served")
        dtype = DTYPES.get(info.dtype % 100)  # reference types (n + 100) of TF1 graphs mean the same
        if dtype is None:
            raise Unsupported(
                f"{where} has a dtype that cannot be sent over the wire (TensorFlow's number {info.dtype})"
            )
        known = not info.shape.unknown_rank
        shape = tuple(None if d.size < 0 else d.size for d in info.shape.dims) if known else None
        specs.append(TensorSpec(entry.key, dtype, shape))
    return tuple(specs)
