"""What every engine promises: named arrays in, named arrays out. Which runtime does it is the engine's own affair.

Engines know neither callers, nor deadlines, nor wire formats. One thread at a time may be inside an engine.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]


class Engine(Protocol):
    """A loaded model.

    `plan` is the name of the plan this engine runs. `pads` says that it computes whole buckets: a run of 5 rows
    costs as much as one of 8 when the buckets are 1, 2, 4, 8.
    """

    plan: str
    pads: bool

    def warm(self, bucket: int) -> None:
        """Reserve what runs of `bucket` rows need, so that no caller pays for it. Needs no data and runs nothing."""

    def run(self, signature: str, inputs: Tensors) -> dict[str, Array]:
        """Compute one signature. The arrays have the signature's dtypes (object arrays of bytes for strings); for a
        batched signature all share their first dimension, at most the biggest bucket. The answers are the caller's
        own: no later run changes them. Raises InvalidInput when the model itself refuses a value of the inputs;
        whatever else the runtime raises leaves this method as it is."""

    def close(self) -> None:
        """Release the model. No run may follow."""


NUMPY_DTYPES: Mapping[str, np.dtype[Any]] = {
    name: np.dtype(name)
    for name in (
        "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "float32", "float64", "complex64", "complex128",
    )
} | {"string": np.dtype(object)}  # fmt: skip
"""TensorFlow's dtype names → numpy's. bfloat16 has no numpy dtype of its own and is left out on purpose."""
