"""The operating API keeps what its own OpenAPI document promises, whatever is sent."""

import asyncio
import math
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from deploy.rollout.plan import CANARY
from deploy.rollout.plan_file import plan_to_json
from tests.deploy.plane import plane


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The API of a control plane with fakes where the world would be, on a port of its own, with a model to talk of."""
    started: Future[tuple[uvicorn.Server, str]] = Future()

    async def serve(home: Path) -> None:
        async with plane(home) as control:
            control.versions("m", 3)
            server = uvicorn.Server(uvicorn.Config(control.app, port=0, log_level="error", lifespan="off"))
            running = asyncio.create_task(server.serve())
            while not server.started:  # noqa: ASYNC110 - uvicorn rings no bell
                await asyncio.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            started.set_result((server, f"http://127.0.0.1:{port}"))
            while not running.done():
                if control.clock.next_due < math.inf:  # who waits for a measurement need not wait long
                    control.clock.move(1.0)
                await asyncio.wait({running}, timeout=0.01)

    thread = threading.Thread(target=lambda: asyncio.run(serve(tmp_path_factory.mktemp("home"))))
    thread.start()
    server, url = started.result(30)
    try:
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        yield schema.exclude(path_regex="^/metrics/")  # of Envoy and of workers, which are not there: 503
    finally:
        server.should_exit = True
        thread.join(30)


BOUNDED = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


def test_the_api_keeps_its_promises_whatever_is_sent(api: Any) -> None:
    broken = {}
    for found in api.get_all_operations():
        operation = found.ok()
        for mode in schemathesis.GenerationMode:
            try:
                _ask(operation, mode)
            except (Exception, BaseExceptionGroup) as error:
                if isinstance(error, Unsatisfiable) and mode is schemathesis.GenerationMode.NEGATIVE:
                    continue  # there is nothing in such a call that could be wrong
                broken[f"{operation.label}, {mode.value}"] = str(error)
    assert not broken, "\n\n".join(f"{where}: {said}" for where, said in broken.items())


def _make_sense(case: Any) -> None:
    """What no schema can say: a model there is, a plan that is one, and the revision of today."""
    if "name" in case.path_parameters:
        case.path_parameters["name"] = "m"
    if isinstance(case.body, dict) and isinstance(case.body.get("plan"), dict):
        case.body = {**case.body, "plan": plan_to_json(CANARY)}
        case.body.pop("strategy", None)
    if case.headers and "if-match" in case.headers:
        case.headers["if-match"] = "*"


def _ask(operation: Any, mode: schemathesis.GenerationMode) -> None:
    """Send what fits the document, or what does not, and look at every answer with every check."""

    @BOUNDED
    @given(case=operation.as_strategy(generation_mode=mode))
    def calls(case: Any) -> None:
        if mode is schemathesis.GenerationMode.POSITIVE:
            _make_sense(case)
        case.call_and_validate()

    calls()
