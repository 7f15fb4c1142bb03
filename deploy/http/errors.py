"""How errors leave the API: one table from contracts.errors to status codes, one body shape, nothing unmapped."""

import logging
import math
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from contracts import errors
from contracts.errors import TealError

log = logging.getLogger(__name__)

# Looked up along the class's ancestors, so that a new error below one of these is mapped too.
STATUS: Mapping[type[TealError], int] = {
    errors.InvalidInput: 400,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Stale: 409,
    errors.TooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.Unsupported: 501,
    errors.Unavailable: 503,
    errors.DeadlineExceeded: 504,
    errors.Internal: 500,
    errors.TealError: 500,
}


class Error(BaseModel):
    """What every refused call answers."""

    error: str
    code: str


def status_of(error: TealError) -> int:
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def responses(*codes: int) -> dict[int | str, dict[str, object]]:
    """The errors of a call, for its OpenAPI."""
    return {code: {"model": Error, "description": _DESCRIPTIONS[code]} for code in codes}


_DESCRIPTIONS: Mapping[int, str] = {
    400: "The request does not fit; the sentence says what was expected and what came.",
    404: "No such model, version or worker; the sentence names those there are.",
    409: "It contradicts the present state; the sentence names the next step.",
    412: "If-Match names another revision than today's, and users would get more.",
    413: "The body is larger than any command is.",
    415: "The body is not JSON.",
    500: "A fault of Teal; the log has more.",
    503: "Recorded and not yet in force, or not possible now; the sentence says why.",
}


def install(app: FastAPI) -> None:
    """Give `app` the error bodies of docs/architecture.md for everything that can go wrong in it."""
    app.add_exception_handler(TealError, _teal_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _fault)


def answer(status: int, message: str, code: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message, "code": code}, status_code=status, headers=dict(headers or {}))


async def _teal_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, TealError):
        raise error
    headers = {}
    status = status_of(error)
    if isinstance(error, errors.Stale) and request.headers.get("if-match", "*") != "*":
        status = 412  # what HTTP calls it; in the body `expected_revision` contradicts the state like anything else
    if isinstance(error, errors.Unavailable):
        headers["retry-after"] = str(math.ceil(error.retry_after))
    return answer(status, error.message, error.code, headers)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    said = "; ".join(_problem(item) for item in error.errors()[:5])
    return answer(400, f"the request does not fit: {said}", errors.InvalidInput.code)


def _problem(item: Mapping[str, object]) -> str:
    where = item.get("loc", ())
    name = ".".join(str(part) for part in where if part != "body") if isinstance(where, tuple) else ""
    message = str(item.get("msg", "not valid"))
    if item.get("type") == "extra_forbidden":
        message = "no such field"
    if item.get("type") == "json_invalid":
        context = item.get("ctx")
        detail = context.get("error", "") if isinstance(context, dict) else ""
        return f"the body is not JSON ({detail})"
    return f"{name or 'body'}: {message}"


async def _http_error(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    codes = {404: errors.NotFound.code, 405: "method_not_allowed", 413: errors.TooLarge.code}
    code = codes.get(error.status_code, errors.InvalidInput.code if error.status_code < 500 else errors.Internal.code)
    said = str(error.detail)
    if error.status_code == 404 and said == "Not Found":
        said = "no such path; the API is described at /docs"
    return answer(error.status_code, said, code, error.headers)


async def _fault(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return answer(500, f"a fault of Teal ({type(error).__name__}); its log has more", errors.Internal.code)
