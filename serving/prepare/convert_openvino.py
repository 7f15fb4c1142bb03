"""SavedModel → OpenVINO's format, float32. Imports OpenVINO and no TensorFlow.

OpenVINO reads one signature of a SavedModel, `serving_default`, so each signature is shown to it under that name in a
directory of links. Inputs and outputs are kept by place, in an index beside the models, and every name inside is
replaced: then two names for one function, which every Keras export has, give the same bytes and are loaded once.
"""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from contracts.signature import DEFAULT_SIGNATURE, Signature
from serving.engine.openvino import INDEX, runtime
from serving.prepare.isolated import is_full_disk
from serving.prepare.protos import Messages, message_class
from serving.prepare.samples import brief
from serving.prepare.savedmodel import MODEL_FILE, SERVE_TAG

# As little as has to be changed; protobuf carries what it does not know along.
_MESSAGES: Messages = {
    "SavedModel": {"meta_graphs": (2, "MetaGraph", True)},
    "MetaGraph": {"meta_info": (1, "MetaInfo", False), "signatures": (5, "SignatureEntry", True)},
    "MetaInfo": {"tags": (4, "string", True)},
    "SignatureEntry": {"key": (1, "string", False)},
}
_SAVED_MODEL = message_class("teal.one_signature", _MESSAGES, "SavedModel")


def convert(saved_model: Path, target: Path, signatures: tuple[Signature, ...]) -> str | None:
    """Write one model per different signature and the index into the directory `target`. None, or why it cannot be
    done, as a sentence."""
    target.mkdir(parents=True, exist_ok=True)
    try:
        index = {s.name: _convert_one(saved_model, target, s) for s in signatures}
    except Exception as error:
        if is_full_disk(error):
            raise
        return f"OpenVINO does not convert it: {_gist(error)}"
    (target / INDEX).write_text(json.dumps(index, sort_keys=True))
    return None


def _convert_one(saved_model: Path, target: Path, signature: Signature) -> dict[str, Any]:
    """The signature's entry of the index."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        place = Path(scratch)
        for path in saved_model.iterdir():
            if path.name not in (MODEL_FILE, "fingerprint.pb"):
                (place / path.name).symlink_to(path.absolute())
        (place / MODEL_FILE).write_bytes(only_signature((saved_model / MODEL_FILE).read_bytes(), signature.name))
        model = runtime.convert_model(place)
        inputs = [_alias(port, [s.name for s in signature.inputs]) for port in model.inputs]
        outputs = {
            spec.name: next((i for i, port in enumerate(model.outputs) if spec.name in port.get_names()), None)
            for spec in signature.outputs
        }
        if lost := [name for name, place_of in outputs.items() if place_of is None]:
            raise ValueError(f"output {', '.join(lost)} is lost on the way")
        _forget_names(model)
        runtime.save_model(model, place / "model.xml", compress_to_fp16=False)
        weights = _keep(place / "model.bin", target)
        return {"model": _keep(place / "model.xml", target), "weights": weights, "inputs": inputs, "outputs": outputs}


def only_signature(saved_model: bytes, name: str) -> bytes:
    """`saved_model.pb` with the graph to serve alone, and in it the signature `name` as the default one. TensorFlow's
    own signatures, which initialise tables, stay."""
    message = _SAVED_MODEL.FromString(saved_model)
    graphs = sorted(message.meta_graphs, key=lambda g: (SERVE_TAG not in g.meta_info.tags, len(g.meta_info.tags)))
    graph = graphs[0]
    kept = [entry for entry in graph.signatures if entry.key == name or entry.key.startswith("__saved_model")]
    for entry in kept:
        if entry.key == name:
            entry.key = DEFAULT_SIGNATURE
    lone = _SAVED_MODEL.FromString(saved_model)
    del lone.meta_graphs[:]
    only = lone.meta_graphs.add()
    only.CopyFrom(graph)
    del only.signatures[:]
    only.signatures.extend(kept)
    data: bytes = lone.SerializeToString()
    return data


def _alias(port: Any, names: list[str]) -> str:
    """The signature's name of an input of the model; an input the graph never uses has no port at all."""
    return next(name for name in names if name in port.get_names())


def _forget_names(model: Any) -> None:
    for number, operation in enumerate(model.get_ordered_ops()):
        operation.set_friendly_name(f"op{number}")
        for place, port in enumerate(operation.outputs()):
            port.get_tensor().set_names({f"t{number}.{place}"})
    model.set_friendly_name("model")


def _keep(path: Path, target: Path) -> str:
    """Move a file into `target` under the name of its bytes; the same bytes are kept once."""
    name = hashlib.sha256(path.read_bytes()).hexdigest()[:16] + path.suffix
    path.replace(target / name)
    return name


def _gist(error: Exception) -> str:
    """OpenVINO reports pages; the operations it lacks are what tells most."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if "No conversion rule" in line or "with a message" in line]
    return telling[0].removeprefix("-- ")[:300] if telling else brief(error)
