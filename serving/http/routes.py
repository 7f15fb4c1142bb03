"""Which path means what: TensorFlow Serving's and the Open Inference Protocol's URLs, as values.

Envoy has chosen this worker already; here it is only checked that the URL names what this worker serves.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

from contracts.errors import InvalidInput, NotFound
from contracts.names import MAX_VERSION
from contracts.worker import PATH_ANSWERS, PATH_LIVE, PATH_METRICS, PATH_READY, PATH_WORKER
from serving.codec.columns import quoted


class Page(Enum):
    V1_PREDICT = auto()
    V1_CLASSIFY = auto()
    V1_REGRESS = auto()
    V1_MULTI = auto()
    V1_STATUS = auto()
    V1_METADATA = auto()
    V2_INFER = auto()
    V2_SERVER = auto()
    V2_MODEL = auto()
    V2_MODEL_READY = auto()
    LIVE = auto()
    READY = auto()
    METRICS = auto()
    WORKER = auto()
    ANSWERS = auto()


PREDICTIONS = frozenset({Page.V1_PREDICT, Page.V1_CLASSIFY, Page.V1_REGRESS, Page.V1_MULTI, Page.V2_INFER})
"""Pages that take a body and compute."""


@dataclass(frozen=True)
class WrongVerb(Exception):
    """The path is right and the method is not."""

    allowed: str


_V1 = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(?:/(?P<by>versions|labels)/(?P<which>[^/:]+))?(?P<end>:[^/:]+|/metadata)?",
    re.IGNORECASE,
)
_V1_VERBS = {":predict": Page.V1_PREDICT, ":classify": Page.V1_CLASSIFY, ":regress": Page.V1_REGRESS}
_RPC_VERBS = _V1_VERBS | {":multiinference": Page.V1_MULTI}
_V2 = re.compile(r"/v2/models/(?P<model>[^/:]+)(?:/versions/(?P<version>[^/:]+))?(?P<end>/infer|/ready)?")
_FIXED = {
    "/v2": Page.V2_SERVER,
    PATH_LIVE: Page.LIVE,
    PATH_READY: Page.READY,
    PATH_METRICS: Page.METRICS,
    PATH_WORKER: Page.WORKER,
    PATH_ANSWERS: Page.ANSWERS,
}


def hot_paths(model: str, version: int) -> dict[str, Page]:
    """The paths predictions usually come by: found without parsing."""
    return {
        f"/v1/models/{model}:predict": Page.V1_PREDICT,
        f"/v1/models/{model}/versions/{version}:predict": Page.V1_PREDICT,
        f"/v2/models/{model}/infer": Page.V2_INFER,
        f"/v2/models/{model}/versions/{version}/infer": Page.V2_INFER,
    }


def resolve(method: str, path: str, model: str, version: int, *, rpc: bool = False) -> Page:
    """The page a request asks for; with `rpc` any page goes by POST, as gRPC has no other verb. Raises InvalidInput for
    anything odd under /v1, as TensorFlow Serving answers 400 there; NotFound for another model or version and unknown
    paths; WrongVerb."""
    if path[:4].lower() == "/v1/":
        return _resolve_v1(method, path, model, version, rpc=rpc)
    page, verb = _FIXED.get(path.rstrip("/") if path.startswith("/v2") else path), "GET"
    if page is None and (match := _V2.fullmatch(path)) is not None:
        _check_served(match["model"], match["version"], model, version)
        page = {None: Page.V2_MODEL, "/ready": Page.V2_MODEL_READY, "/infer": Page.V2_INFER}[match["end"]]
        verb = "POST" if page is Page.V2_INFER else "GET"
    if page is None:
        raise NotFound("there is nothing at this path; predictions are under /v1/models and /v2/models")
    if page is Page.ANSWERS and method == "POST" and not rpc:
        return page
    if method != verb and not rpc:
        raise WrongVerb(verb)
    return page


def _resolve_v1(method: str, path: str, model: str, version: int, *, rpc: bool) -> Page:
    match = _V1.fullmatch(path)
    if match is None:
        raise InvalidInput("malformed request: expected /v1/models/NAME[/versions/N|/labels/LABEL][:predict|/metadata]")
    by, which, end = match["by"], match["which"], match["end"] or ""
    wanted = None
    if by is not None and by.lower() == "versions":
        if not (which.isascii() and which.isdigit()) or int(which[:20]) > MAX_VERSION:
            raise InvalidInput("malformed request: a version is a whole number")
        wanted = which
    if end.startswith(":"):
        verbs = _RPC_VERBS if rpc else _V1_VERBS
        if method != "POST" or end not in verbs:
            raise InvalidInput("malformed request: expected POST to :predict, :classify or :regress")
        _check_served(match["model"], wanted, model, version)
        return verbs[end]
    if method != "GET" and not rpc:
        raise InvalidInput("malformed request: status and metadata are read with GET")
    _check_served(match["model"], wanted, model, version)
    return Page.V1_METADATA if end else Page.V1_STATUS


def _check_served(model: str, version: str | None, served: str, served_version: int) -> None:
    if model != served:
        raise NotFound(f"no model {quoted(model)} here: this worker serves {quoted(served)}")
    if version is not None and version.lstrip("0") != str(served_version):
        raise NotFound(
            f"no version {version[:20]} of {quoted(served)} here: this worker serves version {served_version}"
        )
