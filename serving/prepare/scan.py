"""The static scan of a SavedModel: refuses what reaches out of the model, before anything of it runs.

Decides from the parsed graphs alone. A model is a program; one that opens files, calls Python, talks to the network or
ends the process does not belong into a worker. What passes is still a program: workers run it apart and limited.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from contracts.errors import InvalidInput
from serving.prepare.savedmodel import Function, MetaGraph, Node, node_of

# Families of TensorFlow 2.21's 1,910 registered ops, by what they would let a model do. Full matches.
_FORBIDDEN = tuple(
    (re.compile(pattern), why)
    for pattern, why in (
        (r"(ReadFile|WriteFile|MatchingFiles|RecordInput|DumpTensor)", "reads or writes files"),
        (r"(WholeFile|TextLine|TFRecord|FixedLengthRecord|LMDB)Reader(V2)?", "reads files"),
        (
            r"(Experimental)?(TextLine|TFRecord|FixedLengthRecord|CSV|LMDB|Sql|MatchingFiles)Dataset(V\d)?",
            "reads files",
        ),
        (r"(Save|Load|Snapshot|SnapshotChunk|Cache)Dataset(V\d)?", "reads or writes files"),
        (r"(Snapshot|SnapshotNested)DatasetReader|ListSnapshotChunksDataset", "reads files"),
        (r"(Experimental)?DatasetToTFRecord|DistributedSave|CalibrationStatisticsSaver", "writes files"),
        (r"CreateSummary(File|Db)Writer|Write\w*Summary|ImportEvent", "writes files"),
        (r"GenerateVocabRemapping|LoadAndRemapMatrix|FileSystemSetConfiguration", "reads files"),
        (r"Save|SaveSlices|Restore|RestoreSlice|DTensorRestoreV2", "reads or writes files"),
        (r"Debug\w+", "writes debug records to files or the network"),
        (r"PyFunc|PyFuncStateless|EagerPyFunc", "calls Python code that is not part of the model"),
        (r"Rpc\w+|DeleteRpcFutureResource|DataService\w+|RegisterDataset(V2)?|\w*WorkerHeartbeat", "uses the network"),
        (r"XlaCustomCall(V2)?", "calls native code that is not part of the model"),
        (r"Abort", "ends the process"),
    )
)

# Every ordinary SavedModel saves and restores its variables; no ordinary one does so while it serves.
_CHECKPOINT = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints"})
_FROM_TEXT_FILE = frozenset({"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"})
_STREAMS = frozenset({b"stderr", b"stdout", b"log(info)", b"log(warning)", b"log(error)"})


def refuse_forbidden(graphs: tuple[MetaGraph, ...]) -> None:
    """Raise InvalidInput naming the first op and node that a served model may not have."""
    for graph in graphs:
        allowed_to_save = _saver_functions(graph)
        for function, node in _all_nodes(graph):
            why = _reason(node)
            if why is None and node.op in _CHECKPOINT and not _saves(graph, function, node, allowed_to_save):
                why = "reads or writes files outside of saving and restoring variables"
            if why is None and node.op in _FROM_TEXT_FILE and not _reads_an_asset(graph, function, node):
                why = "reads a file that is not one of the model's assets"
            if why is not None:
                place = f'function "{function.name}"' if function is not None else "the graph"
                raise InvalidInput(
                    f'op {node.op}, node "{node.name}" in {place}, {why}: such a model is not served. '
                    "Move this work in front of the model and export it again"
                )


def _all_nodes(graph: MetaGraph) -> Iterator[tuple[Function | None, Node]]:
    for node in graph.nodes:
        yield None, node
    for function in graph.functions.values():
        for node in function.nodes:
            yield function, node


def _reason(node: Node) -> str | None:
    for pattern, why in _FORBIDDEN:
        if pattern.fullmatch(node.op):
            return why
    if node.op == "PrintV2" and node.texts.get("output_stream", b"stderr") not in _STREAMS:
        return "prints into a file"
    if node.op in ("DecodeProtoV2", "EncodeProto"):
        descriptors = node.texts.get("descriptor_source", b"local://")
        if descriptors != b"local://" and not descriptors.startswith(b"bytes://"):
            return "reads message descriptors from a file"
    return None


def _saves(graph: MetaGraph, function: Function | None, node: Node, allowed: frozenset[str]) -> bool:
    if function is not None:
        return function.name in allowed
    return node.name not in _upstream(graph, graph.signature_nodes | graph.init_nodes)


def _saver_functions(graph: MetaGraph) -> frozenset[str]:
    """Functions that only saving and restoring use: nothing of serving or of initialising the model calls them."""
    serving = _functions_of(graph, _upstream(graph, graph.signature_nodes | graph.init_nodes))
    saving = _functions_of(graph, _upstream(graph, graph.saver_nodes)) - serving
    others = {
        c for f in graph.functions.values() if f.name not in saving for n in f.nodes for c in (n.op, *n.functions)
    }
    return saving - others


def _upstream(graph: MetaGraph, roots: frozenset[str]) -> frozenset[str]:
    """Names of the main graph's nodes that must run for `roots` to run."""
    nodes = {node.name: node for node in graph.nodes}
    seen: set[str] = set()
    waiting = [name for name in roots if name in nodes]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(source for source in map(node_of, nodes[name].inputs) if source in nodes)
    return frozenset(seen)


def _functions_of(graph: MetaGraph, names: frozenset[str]) -> frozenset[str]:
    """Names of the functions the named nodes call, directly or through other functions."""
    seen: set[str] = set()
    waiting = [called for node in graph.nodes if node.name in names for called in (node.op, *node.functions)]
    while waiting:
        name = waiting.pop()
        if name in graph.functions and name not in seen:
            seen.add(name)
            waiting.extend(c for node in graph.functions[name].nodes for c in (node.op, *node.functions))
    return frozenset(seen)


def _reads_an_asset(graph: MetaGraph, function: Function | None, node: Node) -> bool:
    """A vocabulary is fine when its path comes from the model's assets: in the main graph from an asset's constant, in
    a function as an argument (TensorFlow binds the asset's path, made anew at every load, to it)."""
    if len(node.inputs) < 2:
        return False
    source = node_of(node.inputs[1])
    return source in graph.asset_nodes if function is None else source in function.arguments


_VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable"})


def refuse_missing_variables(graphs: tuple[MetaGraph, ...], saved_model: Path) -> None:
    """Raise InvalidInput when the graph has variables and the directory has no values for them."""
    variable = next((node for _, node in _all_nodes(graphs[0]) if node.op in _VARIABLES), None)
    if variable is not None and not (saved_model / "variables" / "variables.index").is_file():
        raise InvalidInput(
            f'source: the model has variables, "{variable.name}" for one, but variables/variables.index is missing: '
            "the model is half-written; export it again"
        )
