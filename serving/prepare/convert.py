"""SavedModel → TensorFlow Lite, float32, built-in operations only. Imports TensorFlow.

A model that would need TensorFlow's own operations inside (Flex) gains nothing from this plan and is left to the
tensorflow one.
"""

import re
from pathlib import Path
from typing import Any

import tensorflow as tf

from serving.prepare.isolated import is_full_disk
from serving.prepare.samples import brief

_LACKING = re.compile(r"'tf\.(\w+)' op|Flex(\w+)")


def convert(saved_model: Path, target: Path, signatures: tuple[str, ...]) -> str | None:
    """Write the model with all `signatures` to the file `target`. None, or why it cannot be done, as a sentence."""
    try:
        content = _converter(str(saved_model), list(signatures)).convert()
    except Exception as error:
        if is_full_disk(error):
            raise
        return why_not(str(error)) or f"does not convert: {brief(error)}"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return None


def _converter(saved_model: str, signatures: list[str]) -> Any:
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=signatures[:1])
    # Asked for several signatures of a Keras export, from_saved_model silently keeps `serving_default` alone
    # (TensorFlow 2.21, lite/python/lite.py). The names are therefore set afterwards; a release that ignores them
    # shows at once, because the engine refuses a file that lacks a signature.
    if hasattr(converter, "_saved_model_exported_names"):
        converter._saved_model_exported_names = signatures
        return converter
    return tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=signatures)


def why_not(words: str) -> str | None:
    """The converter's pages of words as one sentence when TensorFlow Lite lacks operations, else None."""
    lacking = sorted({a or b for a, b in _LACKING.findall(words)})
    return f"TensorFlow Lite has no built-in operation for {', '.join(lacking)} on these dtypes" if lacking else None
