"""The yardstick of the gateway benchmark: the same engine behind the least code that can answer.

A raw ASGI application on uvicorn, uvloop and httptools: parse the body, run the model, print the answer. No checks,
no batching, no metrics, no Envoy. What Teal adds is measured against this in the same run.

    python -m loadtests.baseline MODEL.tflite PORT
"""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import orjson
import uvicorn
from ai_edge_litert.interpreter import Interpreter

JSON = [(b"content-type", b"application/json")]


def application(path: str) -> Callable[..., Awaitable[None]]:
    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]

    async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message.get("more_body"):
                break
        if not body:  # whoever starts this asks whether it is there
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        rows = np.array(orjson.loads(body)["instances"], dtype=np.float32)
        interpreter.set_tensor(source, rows)
        interpreter.invoke()
        result = interpreter.get_tensor(target)
        reply = orjson.dumps({"predictions": result}, option=orjson.OPT_SERIALIZE_NUMPY)
        headers = [*JSON, (b"content-length", b"%d" % len(reply))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply})

    return answer


if __name__ == "__main__":
    uvicorn.run(
        application(sys.argv[1]),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        lifespan="off",
    )
