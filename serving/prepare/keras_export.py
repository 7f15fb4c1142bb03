"""A scanned .keras file → a SavedModel, as `model.export` of Keras writes it. Imports TensorFlow."""

from pathlib import Path

import tensorflow as tf

from contracts.errors import InvalidInput
from serving.prepare.samples import brief


def export(keras_file: Path, target: Path) -> None:
    """Load with safe mode (the scan before it is the boundary, this is the second lock) and export for serving.
    Raise InvalidInput when Keras cannot load it."""
    try:
        model = tf.keras.models.load_model(str(keras_file), compile=False, safe_mode=True)
    except Exception as error:
        raise InvalidInput(f".keras file: Keras does not load it: {brief(error)}") from error
    if not getattr(model, "inputs", None):
        raise InvalidInput(
            ".keras file: the model does not know its inputs: build it with keras.Input or call it once before saving"
        )
    model.export(str(target), format="tf_saved_model", verbose=False)
