"""The predictions port from Python, as far as the command line and the demo need it: one request, one answer, in the
TensorFlow Serving protocol. What is refused comes back as an error of contracts.errors with the server's sentence."""

import json
from types import TracebackType
from typing import Any, Self

import httpx

from contracts.errors import DeadlineExceeded, Unavailable
from contracts.limits import LIMITS
from contracts.signature import DEFAULT_SIGNATURE
from deploy.client import error_from


class Predictions:
    """Keep-alive connections to the predictions port at `url`, e.g. http://127.0.0.1:8080."""

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        timeout = httpx.Timeout(LIMITS.request_seconds + 5.0, connect=5.0)
        self._http = httpx.Client(base_url=self.url, timeout=timeout, transport=transport, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def predict(self, path: str, body: Any) -> httpx.Response:
        """POST `{path}:predict`. `path` is /v1/models/NAME, with /versions/N or /labels/L behind it if wanted."""
        return self._send("POST", f"{path}:predict", body)

    def predict_image(self, path: str, picture: bytes, kind: str) -> httpx.Response:
        """POST a picture as it is; `kind` is image/jpeg or image/png."""
        return self._exchange("POST", f"{path}:predict", picture, kind)

    def input_rank(self, path: str) -> int | None:
        """Dimensions of the model's input, rows included; None when it has several inputs or does not say."""
        answer = self._send("GET", f"{path}/metadata").json()
        try:
            signature = answer["metadata"]["signature_def"]["signature_def"][DEFAULT_SIGNATURE]
            (tensor,) = signature["inputs"].values()
            shape = tensor["tensor_shape"]
            return None if shape.get("unknown_rank") else len(shape["dim"])
        except (KeyError, TypeError, ValueError):
            return None

    def _send(self, method: str, path: str, body: Any = None) -> httpx.Response:
        # Written here because httpx refuses NaN, which the protocol carries as a bare token.
        return self._exchange(method, path, None if body is None else json.dumps(body).encode(), "application/json")

    def _exchange(self, method: str, path: str, content: bytes | None, kind: str) -> httpx.Response:
        try:
            response = self._http.request(method, path, content=content, headers={"content-type": kind})
        except httpx.TimeoutException:
            raise DeadlineExceeded(f"no answer from {self.url}{path}; look at it with: teal status") from None
        except httpx.TransportError as error:
            raise Unavailable(
                f"nobody takes predictions at {self.url} ({error}); look at it with: teal status"
            ) from error
        if not response.is_success:
            raise error_from(response)
        return response
