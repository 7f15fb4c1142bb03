"""What an infer request may say about its own scheduling: `timeout` and `priority`."""

import json
from typing import Any

import pytest

from serving.http.routes import Page
from tests.fakes.clock import HandClock
from tests.serving.engines import half_plus_two
from tests.serving.http.asgi import Client, run

INFER = "/v2/models/half_plus_two/infer"


class TickingClock(HandClock):
    """Every look at it takes a millisecond."""

    def monotonic(self) -> float:
        self.move(0.001)
        return super().monotonic()


def infer(parameters: Any, at_once: bool, headers: dict[str, str] | None = None) -> tuple[int, list[int]]:
    """Status of a request of one value, and the rows of the engine's runs."""
    engine = half_plus_two()
    tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}
    body = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()

    async def story(client: Client) -> int:
        if not at_once:
            return (await client.ask("POST", INFER, body, headers)).status
        head = {name.encode(): value.encode() for name, value in (headers or {}).items()}
        answer = client.app.predict_at_once(Page.V2_INFER, head, body, client.app.now())
        assert answer is not None
        return answer.status

    return run(story, engine, clock=TickingClock()), engine.runs


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(
    ("timeout", "status"), [(0, 200), (1, 504), (500, 504), (5_000_000, 200), (2**64 - 1, 200)], ids=str
)
def test_a_timeout_in_microseconds_is_a_deadline(at_once: bool, timeout: int, status: int) -> None:
    assert infer({"timeout": timeout}, at_once) == (status, [1] if status == 200 else [])


@pytest.mark.parametrize("at_once", [False, True])
def test_a_timeout_shortens_the_deadline_and_never_lengthens_it(at_once: bool) -> None:
    assert infer({"timeout": 5_000_000}, at_once, {"x-teal-timeout-ms": "0.5"}) == (504, [])
    assert infer({"timeout": 500}, at_once, {"x-teal-timeout-ms": "5000"}) == (504, [])


@pytest.mark.parametrize("priority", [0, 1, 7, 2**64 - 1])
def test_a_priority_is_accepted(priority: int) -> None:
    assert infer({"priority": priority}, at_once=True) == (200, [1])


@pytest.mark.parametrize("name", ["timeout", "priority"])
@pytest.mark.parametrize("value", [-1, 1.5, "1", True, None, [1], 2**64], ids=str)
def test_a_timeout_or_priority_that_is_no_count_is_400(name: str, value: Any) -> None:
    assert infer({name: value}, at_once=True) == (400, [])


def test_names_that_belong_to_the_server_are_400() -> None:
    assert infer({"triton_x": 1}, at_once=True) == (400, [])
    assert infer({"mine": 1, "sequence_id": 0}, at_once=True) == (200, [1])
