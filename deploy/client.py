"""The operating API from Python: one method per call, answers typed as in deploy.answers.

Used by the command line, the demo and tests. What the server refused comes back as the error it was there
(contracts.errors); a server that does not answer is Unavailable. Predictions are not spoken here: they go to Envoy.
"""

import getpass
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack
from urllib.parse import quote

import httpx

from contracts.errors import (
    Conflict,
    DeadlineExceeded,
    Internal,
    InvalidInput,
    NotFound,
    Overloaded,
    Stale,
    TealError,
    TooLarge,
    Unavailable,
    UnknownLabel,
    Unsupported,
    UnsupportedMedia,
)
from deploy.answers import Deployed, Explanation, Forecast, History, Models, Overview, Status, Version, Versions

READ_SECONDS = 10.0
COMMAND_SECONDS = 30.0  # longer than the control plane itself waits for Envoy
DEPLOY_SECONDS = 1000.0  # a deploy answers only once the version is warm, and the control plane waits 15 minutes

ERRORS: dict[str, type[TealError]] = {
    error.code: error
    for error in (
        InvalidInput,
        UnknownLabel,
        NotFound,
        Conflict,
        Stale,
        TooLarge,
        UnsupportedMedia,
        Unsupported,
        Unavailable,
        Overloaded,
        DeadlineExceeded,
        Internal,
    )
}
_BY_STATUS: dict[int, type[TealError]] = {
    400: InvalidInput,
    404: NotFound,
    409: Conflict,
    412: Stale,
    413: TooLarge,
    415: UnsupportedMedia,
    422: InvalidInput,
    501: Unsupported,
    503: Unavailable,
    504: DeadlineExceeded,
}


def error_from(response: httpx.Response) -> TealError:
    """The error an answer stands for: by its `code`, else by its status."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and isinstance(body.get("error"), str):
        kind = ERRORS.get(str(body.get("code"))) or _BY_STATUS.get(response.status_code, Internal)
        return kind(body["error"])
    kind = _BY_STATUS.get(response.status_code, Internal)
    return kind(f"{response.request.method} {response.request.url} answered {response.status_code} without a reason")


def operator() -> str:
    """Who is asking, for the history: the name this process runs under."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


class RaiseOptions(TypedDict, total=False):
    """What may be said with commands that can give a candidate more users."""

    override: bool
    reason: str | None
    expected_revision: int | None


class DeployOptions(RaiseOptions, total=False):
    """`plan` is a plan file as JSON (deploy.rollout.plan_file)."""

    strategy: str | None
    plan: dict[str, Any] | None
    replicas: int | None
    threads: int | None
    retry: bool
    supersede: bool


class Client:
    """Speaks to the control plane at `url`, e.g. http://127.0.0.1:8090. A context manager; closes its connections."""

    def __init__(
        self,
        url: str,
        *,
        actor: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.actor = actor or operator()
        # Loopback never goes through a proxy that the environment names for the world outside.
        self._http = httpx.Client(base_url=self.url, timeout=READ_SECONDS, transport=transport, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # reading

    def healthy(self) -> bool:
        """True when the control plane answers; never raises."""
        try:
            return self._http.get("/healthz").status_code == 200
        except httpx.HTTPError:
            return False

    def models(self) -> Models:
        answer: Models = self._get("/api/v1/models")
        return answer

    def versions(self, model: str) -> Versions:
        answer: Versions = self._get(_path(model))
        return answer

    def version(self, model: str, version: int) -> Version:
        answer: Version = self._get(_path(model, "versions", str(version)))
        return answer

    def overview(self) -> Overview:
        answer: Overview = self._get("/api/v1/status")
        return answer

    def status(self, model: str) -> Status:
        answer: Status = self._get(_path(model, "status"))
        return answer

    def history(self, model: str, limit: int | None = None) -> History:
        answer: History = self._get(_path(model, "history"), {} if limit is None else {"limit": limit})
        return answer

    def explain(self, request_id: str) -> Explanation:
        answer: Explanation = self._get(f"/api/v1/explain/{quote(request_id, safe='')}")
        return answer

    def feedback(self, reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What became of each label; docs/feedback.md says what a report holds."""
        results: list[dict[str, Any]] = self._send("POST", "/api/v1/feedback", body=reports)["results"]
        return results

    # commanding: each returns the model's status once Envoy has acknowledged

    def deploy(self, model: str, version: int | None = None, **said: Unpack[DeployOptions]) -> Deployed:
        answer: Deployed = self._command(model, "deploy", DEPLOY_SECONDS, version=version, **said)
        return answer

    def forecast(self, model: str, plan: dict[str, Any] | None = None) -> Forecast:
        """How long a plan would take with today's traffic, which is measured for a few seconds."""
        body = {} if plan is None else {"plan": plan}
        answer: Forecast = self._send("POST", _path(model, "forecast"), body=body)
        return answer

    def weight(self, model: str, percent: float, **said: Unpack[RaiseOptions]) -> Status:
        return self._status(model, "weight", percent=percent, **said)

    def promote(self, model: str, **said: Unpack[RaiseOptions]) -> Status:
        return self._status(model, "promote", **said)

    def skip(self, model: str, **said: Unpack[RaiseOptions]) -> Status:
        return self._status(model, "skip", **said)

    def resume(self, model: str, **said: Unpack[RaiseOptions]) -> Status:
        return self._status(model, "resume", **said)

    def extend(self, model: str, seconds: float, *, reason: str | None = None) -> Status:
        return self._status(model, "extend", seconds=seconds, reason=reason)

    def pause(self, model: str, *, reason: str | None = None) -> Status:
        return self._status(model, "pause", reason=reason)

    def abort(self, model: str, *, reason: str | None = None) -> Status:
        return self._status(model, "abort", reason=reason)

    def rollback(self, model: str, *, reason: str | None = None) -> Status:
        return self._status(model, "rollback", reason=reason)

    def undo(self, model: str, *, reason: str | None = None) -> Status:
        return self._status(model, "undo", reason=reason)

    def drain(self, model: str, version: int | None = None) -> Status:
        return self._status(model, "drain", version=version)

    def delete(self, model: str, version: int) -> dict[str, Any]:
        answer: dict[str, Any] = self._send("DELETE", _path(model, "versions", str(version)))
        return answer

    def _get(self, path: str, params: dict[str, int] | None = None) -> Any:
        return self._send("GET", path, params=params, seconds=READ_SECONDS)

    def _status(self, model: str, verb: str, **facts: Any) -> Status:
        answer: Status = self._command(model, verb, **facts)
        return answer

    def _command(self, model: str, verb: str, patience: float = COMMAND_SECONDS, /, **facts: Any) -> Any:
        body = {key: value for key, value in facts.items() if value is not None and value is not False}
        return self._send("POST", _path(model, verb), body={**body, "actor": self.actor}, seconds=patience)

    def _send(
        self,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | list[dict[str, Any]] | None = None,
        params: dict[str, int] | None = None,
        seconds: float = COMMAND_SECONDS,
    ) -> Any:
        timeout = httpx.Timeout(seconds, connect=READ_SECONDS)
        try:
            response = self._http.request(method, path, json=body, params=params, timeout=timeout)
        except httpx.TimeoutException:
            raise DeadlineExceeded(
                f"the gateway at {self.url} did not answer {method} {path} in {seconds:g} s; "
                "look at it with: teal status"
            ) from None
        except (httpx.TransportError, httpx.InvalidURL, UnicodeError) as error:
            raise Unavailable(
                f"no gateway answers at {self.url} ({error or type(error).__name__}); start one with: teal up"
            ) from error
        if not response.is_success:
            raise error_from(response)
        try:
            return response.json()
        except ValueError:
            raise Internal(
                f"{self.url}{path} answered something that is not JSON: is that the operating port of a gateway?"
            ) from None


def _path(model: str, *rest: str) -> str:
    return "/".join(["/api/v1/models", quote(model, safe=""), *rest])
