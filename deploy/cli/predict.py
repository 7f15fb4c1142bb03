"""`teal predict`: one prediction through the gateway, from what people have at hand: rows, one row, or a whole body."""

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from contracts.errors import InvalidInput
from contracts.names import HEADER_COLOR, HEADER_REQUEST_ID, HEADER_VERSION, check_model_name
from deploy.cli import connect, render
from deploy.cli.options import DEFAULT_HOME, AsJson, Home, Model, Server

BODY_KEYS = ("instances", "inputs")  # what makes an object a request of the TensorFlow Serving protocol


def predict(
    model: Model,
    *,
    data: Annotated[str | None, typer.Option("--data", metavar="JSON", help="Rows, one row, or a whole body.")] = None,
    file: Annotated[str | None, typer.Option("--file", metavar="F", help="A file with the same; - is stdin.")] = None,
    image: Annotated[
        Path | None, typer.Option("--image", metavar="F", help="A JPEG or PNG, for a version with --preprocessing.")
    ] = None,
    version: Annotated[int | None, typer.Option("--version", min=1, help="Ask this version.")] = None,
    home: Home = DEFAULT_HOME,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Ask for a prediction.

    Prints the predictions; who answered goes to standard error."""
    check_model_name(model)
    if sum(given is not None for given in (data, file, image)) != 1:
        raise InvalidInput("predict needs one of --data JSON, --file F and --image F")
    picture = None if image is None else _picture(image)
    value = None if image is not None else _parse(_text(data, file))
    path = f"/v1/models/{quote(model)}" + ("" if version is None else f"/versions/{version}")
    with connect.predictions(connect.Target(home, server)) as gateway:
        body = None if picture is not None else request_body(value, lambda: gateway.input_rank(path))
        started = time.perf_counter()
        answer = gateway.predict(path, body) if picture is None else gateway.predict_image(path, *picture)
        seconds = time.perf_counter() - started
    said: dict[str, Any] = answer.json()
    who = _who(answer.headers)
    if as_json:
        render.json_value({"model": model, **who, "request_id": answer.headers.get(HEADER_REQUEST_ID), **said})
        return
    for row in said["predictions"] if "predictions" in said else [said.get("outputs")]:
        render.line(json.dumps(row))
    render.note(f"{model} version {who['version']} ({who['color']}) answered in {render.duration(seconds)}")


def request_body(value: Any, input_rank: Callable[[], int | None]) -> Any:
    """Make a request body of what was given. A body stays as it is, rows become `instances`, and one row (an array
    with one dimension less than the model's input, or an object naming its inputs) becomes a single instance."""
    if isinstance(value, dict):
        return value if any(key in value for key in BODY_KEYS) else {"instances": [value]}
    if not isinstance(value, list):
        return {"instances": [value]}
    if not value or any(isinstance(row, dict) for row in value):
        return {"instances": value}
    rank = input_rank()
    return {"instances": [value] if rank is not None and _depth(value) == rank - 1 else value}


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, list):
        depth += 1
        value = value[0] if value else None
    return depth


def _who(headers: Mapping[str, str]) -> dict[str, Any]:
    version = headers.get(HEADER_VERSION, "")
    return {"version": int(version) if version.isdigit() else None, "color": headers.get(HEADER_COLOR)}


def _text(data: str | None, file: str | None) -> str:
    if data is not None:
        return data
    try:
        return sys.stdin.read() if file == "-" else Path(str(file)).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise InvalidInput(f"cannot read {file}: {error}; expected a JSON file") from error


def _picture(file: Path) -> tuple[bytes, str]:
    """The bytes of a picture and what kind it is; the worker looks for itself, so the beginning is enough to know."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {file}: {error}; expected a JPEG or PNG") from error
    return content, "image/png" if content.startswith(b"\x89PNG") else "image/jpeg"


def _number(text: str) -> float:
    """Infinity has a token of its own; a number that only became infinite is a mistake nobody should have to find."""
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:40]} is larger than any a model computes with")
    return number


def _parse(text: str) -> Any:
    try:
        return json.loads(text, parse_float=_number)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the data is not JSON: {error}; expected rows like [[0.1, 0.2], [0.3, 0.4]]") from error
