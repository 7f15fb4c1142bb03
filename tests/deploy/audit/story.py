"""A short rollout by evidence, told tick by tick: two steps of ten seconds, ten more beside the version before."""

from typing import Any

from deploy.rollout.deployment import Deployment, State
from deploy.rollout.events import Deploy, Order
from deploy.rollout.plan import Guardrail, Plan, Step, Strategy, Watched
from deploy.rollout.rules import decide
from tests.deploy.plane import BOUND, Plane
from tests.deploy.shelf import WELL

TICK = 5.0
REQUESTS = 2000  # a tick's, of both versions together
PLAN = Plan(
    Strategy.CANARY,
    steps=(Step(1000, 2 * TICK), Step(5000, 2 * TICK)),
    guardrails=(
        Guardrail(Watched.ERRORS, 0.5, objective=0.05),
        Guardrail(Watched.LATENCY, 0.3, required=False),
    ),
    bake=2 * TICK,
)
MOST = 60  # ticks of any story here


async def begin(p: Plane, model: str = "m") -> None:
    """Version 1 is live, version 2 on its way to its first step."""
    p.versions(model, 2)
    await p.must(f"{model}/deploy", version=1)
    await again(p, 2, model)


async def again(p: Plane, version: int, model: str = "m") -> None:
    """Deploy a version by the plan above, and wait until it takes its first step."""
    order = Order(Deploy(version, f"{version - 1:064x}", Strategy.CANARY, plan=PLAN, retry=True), WELL)
    now = p.clock.wall()
    p.store.change(model, lambda d, _v: decide(d, order, now), actor="x", at=now)
    for _ in range(5):
        if (p.store.deployment(model)).trial is not None:
            return
        await p.reconciler.next_tick(BOUND)
    raise AssertionError(p.store.deployment(model))


def serve(p: Plane, model: str = "m", *, failing: float = 0.0) -> None:
    """Five seconds in which callers are served by the weights in force."""
    d = p.store.deployment(model)
    split = next(routes.split for routes in p.traffic.table.models if routes.model == model)
    for place in (d.live, d.candidate):
        if place is not None:
            share = round(REQUESTS * split.share(place.color) / 10_000)
            bad = failing if place is d.candidate else 0.001
            p.counters.answer(model, place.version, share, failed=round(share * bad))
    p.clock.move(TICK)


async def tick(p: Plane, model: str = "m", **served: Any) -> Deployment:
    serve(p, model, **served)
    await p.reconciler.next_tick(BOUND)
    return p.store.deployment(model)


async def until(p: Plane, *states: State, model: str = "m", **served: Any) -> Deployment:
    for _ in range(MOST):
        d = await tick(p, model, **served)
        if d.state in states:
            return d
    raise AssertionError(f"never {states}: {d}")
