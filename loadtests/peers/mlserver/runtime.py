"""The digits model as MLServer serves it: its own runtime interface around the same LiteRT file and engine.

Runs inside the peer's virtual environment, never in ours. One interpreter per batch size, as our worker has.
"""

import os
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class LitertRuntime(MLModel):  # type: ignore[misc]
    async def load(self) -> bool:
        self._path = os.environ["PEER_MODEL"]
        self._interpreters: dict[int, Any] = {}
        self._interpreter(1)
        return True

    def _interpreter(self, rows: int) -> Any:
        interpreter = self._interpreters.get(rows)
        if interpreter is None:
            interpreter = Interpreter(model_path=self._path, num_threads=1)
            details = interpreter.get_input_details()[0]
            interpreter.resize_tensor_input(details["index"], [rows, *details["shape"][1:]])
            interpreter.allocate_tensors()
            self._interpreters[rows] = interpreter
        return interpreter

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        interpreter = self._interpreter(len(rows))
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], rows)
        interpreter.invoke()
        result = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("probabilities", result, use_bytes=False)]
        )
