"""The tensorflow plan: the SavedModel as it came, run by TensorFlow itself. The reference and the fallback.

The only file of the worker that imports TensorFlow; it is imported only when the plan asks for it.
"""

import logging
import os
import re
from pathlib import Path

from contracts.errors import InvalidInput
from contracts.signature import Signature
from serving.engine.base import Array, Tensors

# Read by TensorFlow's C++ side when it is imported, hence before the import below: 2 keeps errors only.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

_log = logging.getLogger(__name__)

_LONGEST = 200  # characters of the model's own words that a caller gets to see
# TensorFlow's frame around what an operation says: where it was defined, what it was compiled into.
_FRAME = re.compile(r"\[\[.*|\[Op:[^\]]*\]|\{\{[^}]*\}\}", re.DOTALL)
_PREAMBLE = re.compile(r"Graph execution error|Detected at node|File \"|<stack traces|Name: <unknown>, ")


class TensorflowEngine:
    """Runs the signatures of a SavedModel. Strings travel as object arrays of bytes.

    `threads` bounds the threads inside one operation; 0 leaves the choice to TensorFlow. TensorFlow takes this
    setting once per process, before its first operation; a later engine keeps what the first one set.
    Raises OSError when the directory is no SavedModel and ValueError when a signature is missing.
    """

    plan = "tensorflow"
    pads = False

    def __init__(self, path: Path, signatures: tuple[Signature, ...], threads: int) -> None:
        if threads:
            _limit_threads(threads)
        self._model = tf.saved_model.load(str(path))  # kept: the functions hold its variables only weakly
        found = self._model.signatures
        missing = [s.name for s in signatures if s.name not in found]
        if missing:
            raise ValueError(f"the SavedModel has no signature {', '.join(missing)}; it has {', '.join(found)}")
        self._functions = {s.name: found[s.name] for s in signatures}
        self._dtypes = {s.name: {i.name: tf.dtypes.as_dtype(i.dtype) for i in s.inputs} for s in signatures}

    def warm(self, bucket: int) -> None:
        """Nothing to reserve: a signature is one graph for every number of rows."""

    def run(self, signature: str, inputs: Tensors) -> dict[str, Array]:
        dtypes = self._dtypes[signature]
        tensors = {name: tf.constant(array, dtype=dtypes[name]) for name, array in inputs.items()}
        try:
            return {name: tensor.numpy() for name, tensor in self._functions[signature](**tensors).items()}
        except tf.errors.InvalidArgumentError as error:
            # An operation's way to say that a value does not fit it: a tf.Example without a feature, an index beyond a
            # table, bytes that are no picture. TensorFlow Serving answers 400, too. Every other code (a table that was
            # not initialised, no memory, an operation that is not there) is none of the caller's business.
            raise InvalidInput(f"the model refuses this input: {gist(error.message)}") from error

    def close(self) -> None:
        self._functions = {}
        self._model = None


def gist(message: str) -> str:
    """What an operation itself said, in one line: no names of nodes, no stack, no paths."""
    lines = (_PREAMBLE.sub("", line).strip() if line.startswith("Name: ") else line for line in message.splitlines())
    said = [_FRAME.sub("", line).strip() for line in lines if not _PREAMBLE.match(line.strip())]
    words = next((line for line in said if line), "an operation does not accept a value in it")
    return re.sub(r"/\S*/\S*", "…", words)[:_LONGEST]


def _limit_threads(threads: int) -> None:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        _log.info("TensorFlow was already running in this process; its number of threads stays as it is")
