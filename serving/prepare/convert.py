"""SavedModel → TensorFlow Lite, built-in operations only. Imports TensorFlow.

A model that would need TensorFlow's own operations inside (Flex) gains nothing from this plan and is left to the
tensorflow one.
"""

import re
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Any

import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from serving.prepare.isolated import is_full_disk
from serving.prepare.samples import brief

_LACKING = re.compile(r"'tf\.(\w+)' op|Flex(\w+)")


class Weights(StrEnum):
    """How precisely the file keeps the model's weights."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"  # each tensor with its own range; activations are quantised while running


def convert(
    saved_model: Path, target: Path, signatures: tuple[str, ...], weights: Weights = Weights.FLOAT32
) -> str | None:
    """Write the model with all `signatures` to the file `target`. None, or why it cannot be done, as a sentence."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        content = _converter(str(saved_model), list(signatures), weights).convert()
        if holds_variables(content):
            content = _convert_resaved(saved_model, target.parent, list(signatures), weights)
    except Exception as error:
        if is_full_disk(error):
            raise
        return why_not(str(error)) or f"does not convert: {brief(error)}"
    target.write_bytes(content)
    return None


def holds_variables(content: bytes) -> bool:
    """Whether the file asks for variables when it runs. A Keras 3 model written by `tf.saved_model.save`, where Keras'
    own `export` was meant, leaves the converter without their values (TensorFlow 2.21): it writes a file with empty
    variables that answers NaN. A model that really keeps state between calls has some, too."""
    model = schema.Model.GetRootAs(content, 0)
    codes = (model.OperatorCodes(i) for i in range(model.OperatorCodesLength()))
    return any(code.BuiltinCode() == schema.BuiltinOperator.READ_VARIABLE for code in codes)


def _convert_resaved(saved_model: Path, scratch: Path, signatures: list[str], weights: Weights) -> Any:
    """Convert what TensorFlow writes after loading: there every variable is one the converter finds."""
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        loaded = tf.saved_model.load(str(saved_model))
        tf.saved_model.save(loaded, place, signatures={name: loaded.signatures[name] for name in signatures})
        return _converter(place, signatures, weights).convert()


def _converter(saved_model: str, signatures: list[str], weights: Weights) -> Any:
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=signatures[:1])
    # Asked for several signatures of a Keras export, from_saved_model silently keeps `serving_default` alone
    # (TensorFlow 2.21, lite/python/lite.py). The names are therefore set afterwards; a release that ignores them
    # shows at once, because the engine refuses a file that lacks a signature.
    if hasattr(converter, "_saved_model_exported_names"):
        converter._saved_model_exported_names = signatures
    else:
        converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=signatures)
    if weights is not Weights.FLOAT32:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if weights is Weights.FLOAT16:
        converter.target_spec.supported_types = [tf.float16]
    return converter


def why_not(words: str) -> str | None:
    """The converter's pages of words as one sentence when TensorFlow Lite lacks operations, else None."""
    lacking = sorted({a or b for a, b in _LACKING.findall(words)})
    return f"TensorFlow Lite has no built-in operation for {', '.join(lacking)} on these dtypes" if lacking else None
