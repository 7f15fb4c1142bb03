"""The digits model as Triton serves it from Python: PyTriton around the same LiteRT file and engine.

Runs inside the peer's virtual environment, never in ours. One interpreter per batch size, as our worker has; Triton's
dynamic batcher on or off, because which is faster depends on the load.

    python serve.py MODEL.tflite WORKSPACE HTTP_PORT GRPC_PORT METRICS_PORT batching|alone
"""

import signal
import sys
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

MOST_ROWS = 64


class Engine:
    def __init__(self, path: str) -> None:
        self._path = path
        self._interpreters: dict[int, Any] = {}

    def run(self, rows: np.ndarray) -> np.ndarray:
        interpreter = self._interpreters.get(len(rows)) or self._made(len(rows))
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], rows)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    def _made(self, rows: int) -> Any:
        interpreter = Interpreter(model_path=self._path, num_threads=1)
        details = interpreter.get_input_details()[0]
        interpreter.resize_tensor_input(details["index"], [rows, *details["shape"][1:]])
        interpreter.allocate_tensors()
        self._interpreters[rows] = interpreter
        return interpreter


def main(path: str, workspace: str, ports: list[int], batching: bool) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # or Triton's own process would outlive this one
    engine = Engine(path)
    http, grpc, metrics = ports

    @batch
    def infer(image: np.ndarray) -> dict[str, np.ndarray]:
        return {"probabilities": engine.run(image)}

    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=http,
        grpc_address="127.0.0.1",
        grpc_port=grpc,
        metrics_port=metrics,
        log_verbose=0,
    )
    model = ModelConfig(max_batch_size=MOST_ROWS, batcher=DynamicBatcher() if batching else None)
    with Triton(config=config, workspace=workspace) as triton:
        triton.bind(
            model_name="digits",
            infer_func=infer,
            inputs=[Tensor(name="image", dtype=np.float32, shape=(64,))],
            outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(10,))],
            config=model,
            strict=False,
        )
        triton.serve()


if __name__ == "__main__":
    file, folder, *ports, mode = sys.argv[1:]
    main(file, folder, [int(port) for port in ports], mode == "batching")
