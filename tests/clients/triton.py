"""Triton's own Python client, unmodified, over HTTP and gRPC. Prints what it was answered as JSON.

triton.py http|grpc HOST:PORT ROWS_JSON      model digits, versions 1 and 2
"""

import importlib
import json
import queue
import sys
from typing import Any

import numpy as np


def main() -> None:
    way = sys.argv[1]
    module = importlib.import_module(f"tritonclient.{way}")
    rows = np.array(json.loads(sys.argv[3]), np.float32)
    with module.InferenceServerClient(sys.argv[2]) as client:
        answers = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready("digits"),
            "version_ready": client.is_model_ready("digits", "2"),
            "unknown_ready": ready(module, client, "nobody"),
            "infer": asked(module, client, rows, "1"),
            "version": asked(module, client, rows, "2"),
            "filtered": asked(module, client, rows, "1", filtered=True),
            "scheduled": asked(module, client, rows, "1", priority=1, timeout=20_000_000),
            "unknown_input": refused(module, client, rows, "other"),
            "wrong_shape": refused(module, client, rows[:, :3], "image"),
            **(http(module, client, rows) if way == "http" else over_grpc(module, client, rows)),
        }
    print(json.dumps(answers))


def tensors(module: Any, rows: Any, name: str = "image", **how: Any) -> list[Any]:
    tensor = module.InferInput(name, list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, **how)
    return [tensor]


def outputs_of(client: Any) -> str:
    found = client.get_model_metadata("digits")
    return str(found["outputs"][0]["name"] if isinstance(found, dict) else found.outputs[0].name)


def asked(module: Any, client: Any, rows: Any, version: str, *, filtered: bool = False, **how: Any) -> Any:
    name = outputs_of(client)
    wanted = [module.InferRequestedOutput(name)] if filtered else None
    result = client.infer("digits", tensors(module, rows), version, outputs=wanted, request_id="q", **how)
    return shown(result, name)


def shown(result: Any, name: str) -> Any:
    said = result.get_response()
    read = said.__getitem__ if isinstance(said, dict) else lambda key: getattr(said, key)
    return {"version": read("model_version"), "id": read("id"), "outputs": result.as_numpy(name).tolist()}


def ready(module: Any, client: Any, model: str) -> Any:
    del module
    try:
        return client.is_model_ready(model)
    except Exception as error:
        return str(error.status())  # type: ignore[attr-defined]


def refused(module: Any, client: Any, rows: Any, name: str) -> Any:
    try:
        client.infer("digits", tensors(module, rows, name))
    except Exception as error:
        return [str(error.status()), str(error.message())]  # type: ignore[attr-defined]
    return None


def http(module: Any, client: Any, rows: Any) -> dict[str, Any]:
    name = outputs_of(client)
    forms = {}
    for sent in (True, False):
        for got in (True, False):
            for packed in (None, "gzip", "deflate"):
                result = client.infer(
                    "digits",
                    tensors(module, rows, binary_data=sent),
                    "1",
                    outputs=[module.InferRequestedOutput(name, binary_data=got)],
                    request_compression_algorithm=packed,
                    response_compression_algorithm=packed,
                )
                forms[f"{sent} {got} {packed}"] = result.as_numpy(name).tolist()
    waiting = [client.async_infer("digits", tensors(module, rows), "1") for _ in range(5)]
    index = client.get_model_repository_index()
    return {
        "forms": forms,
        "async": [each.get_result().as_numpy(name).tolist() for each in waiting],
        "server": client.get_server_metadata()["name"],
        "metadata": client.get_model_metadata("digits", "2")["inputs"],
        "index": sorted([each["name"], each["version"], each["state"]] for each in index),
    }


def over_grpc(module: Any, client: Any, rows: Any) -> dict[str, Any]:
    name = outputs_of(client)
    answered: queue.Queue[Any] = queue.Queue()
    for _ in range(5):
        client.async_infer("digits", tensors(module, rows), lambda result, error: answered.put((result, error)), "1")
    results = [answered.get(timeout=30) for _ in range(5)]
    metadata = client.get_model_metadata("digits", "2")
    index = client.get_model_repository_index()
    return {
        "async": [result.as_numpy(name).tolist() for result, error in results if error is None],
        "server": client.get_server_metadata().name,
        "metadata": [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in metadata.inputs],
        "index": sorted([each.name, each.version, each.state] for each in index.models),
    }


if __name__ == "__main__":
    main()
