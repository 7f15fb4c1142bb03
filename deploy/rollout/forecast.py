"""How long a plan will take with today's traffic, before it starts: time to promote, and time to find harm. Pure.

Evidence grows on average by a divergence per bad unit, so the expected times follow from rates alone (Wald's
approximation of a sequential test's length). Real times scatter by about a factor of two around them.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from contracts.traffic import TOTAL
from deploy.evidence import absolute, relative
from deploy.rollout.plan import DISAGREEMENT, Guardrail, Plan, Step, Watched

_SERVED = frozenset({Watched.ERRORS, Watched.BATCHES, Watched.LATENCY, Watched.NONFINITE})
"""What answers themselves tell; nobody knows how many of them will be labelled."""
# The rarest latency compared is slower than the live version's 99th percentile; a live version predicts numbers.
_USUAL = {Watched.LATENCY: 0.01, Watched.NONFINITE: 0.0}
RISKS = (1.5, 2.0, 3.0)
"""Relative risks a forecast names the time to find of."""


@dataclass(frozen=True)
class Live:
    """What the live version does now: requests a second, and the share of them that fail by its own fault."""

    requests: float
    failing: float


@dataclass(frozen=True)
class Forecast:
    """Seconds; infinite for never. `find` names, per relative risk of failing, how long harm lasts before it is found
    and how many requests the candidate answers meanwhile, and nothing for a candidate that never serves; `problem` says
    why the plan should not start and what would help, None when it may."""

    promote: float
    find: tuple[tuple[float, float, float], ...]
    problem: str | None


def forecast(plan: Plan, live: Live) -> Forecast:
    promote = _promote(plan, live)
    find = tuple((risk, *_find(plan, live, risk)) for risk in RISKS if plan.steps)
    return Forecast(promote, find, _problem(plan, live, promote))


def _promote(plan: Plan, live: Live) -> float:
    """The mirror, dwells, and the last step until every required guardrail is shown safe by a candidate that is no
    worse. Of a candidate that never serves, until its answers are shown to be alike."""
    mirrored = _mirrored(plan, live)
    if not plan.steps:
        return mirrored
    *before, last = plan.steps
    seconds = sum(_dwell(step, live) for step in before)
    final = _dwell(last, live)
    enough = math.log(1 / plan.beta)
    for guardrail in plan.guardrails:
        if not guardrail.required or guardrail.watched not in _SERVED:
            continue
        ways = []
        for rate, needed in _ways_to_safety(plan, guardrail, live, enough):
            gained = sum(rate(step.weight / TOTAL) * _dwell(step, live) for step in before)
            growth = rate(last.weight / TOTAL)
            ways.append(max(0.0, needed - gained) / growth if growth > 0 else math.inf)
        final = max(final, min(ways))
    return mirrored + seconds + final + plan.bake


def _mirrored(plan: Plan, live: Live) -> float:
    """Seconds of the mirror, with a candidate that answers like the live version."""
    if not plan.mirror:
        return 0.0
    alike = next((g for g in plan.guardrails if g.watched is Watched.SHADOW and g.required), None)
    if alike is None:
        return plan.mirror_for
    growth = _against_objective(0.0, 0.0, alike.objective or DISAGREEMENT) * live.requests * plan.mirror / TOTAL
    return max(plan.mirror_for, math.log(1 / plan.beta) / growth if growth > 0 else math.inf)


def _dwell(step: Step, live: Live) -> float:
    arriving = live.requests * step.weight / TOTAL
    return max(step.dwell, step.units / arriving if arriving > 0 else (math.inf if step.units else 0.0))


class _Growth:
    """Evidence a second at a weight between 0 and 1."""

    def __init__(self, bad_a_second: float, true: float, against: float) -> None:
        self._bad, self._true, self._against = bad_a_second, true, against

    def __call__(self, weight: float) -> float:
        bad = self._bad * (1 - weight + self._true * weight)
        return bad * _divergence(_share(self._true, weight), _share(self._against, weight))


def _ways_to_safety(
    plan: Plan, guardrail: Guardrail, live: Live, enough: float
) -> Iterator[tuple[Callable[[float], float], float]]:
    failing = _USUAL.get(guardrail.watched, live.failing)
    yield _Growth(live.requests * failing, 1.0, plan.margin), enough + math.log(len(relative.SAFE))
    if guardrail.objective is not None:
        objective, rate = guardrail.objective, failing
        growth = max(_against_objective(rate, fraction * objective, objective) for fraction in absolute.FRACTIONS)
        yield (lambda weight: live.requests * weight * growth), enough


def _find(plan: Plan, live: Live, risk: float) -> tuple[float, float]:
    """Expected seconds from the first step on, and requests the candidate answers in them."""
    guardrail = next((g for g in plan.guardrails if g.watched is Watched.ERRORS), plan.guardrails[0])
    left = math.log(1 / plan.alpha_of(guardrail)) + math.log(len(relative.HARM))
    growth = _Growth(live.requests * live.failing, risk, 1.0)
    seconds = exposed = 0.0
    for step in plan.steps:
        weight = step.weight / TOTAL
        rate, dwell = growth(weight), _dwell(step, live)
        if rate <= 0:
            return math.inf, math.inf
        if left <= rate * dwell:
            return seconds + left / rate, exposed + live.requests * weight * left / rate
        left, seconds, exposed = left - rate * dwell, seconds + dwell, exposed + live.requests * weight * dwell
    return seconds + left / rate, exposed + live.requests * weight * left / rate


def _problem(plan: Plan, live: Live, promote: float) -> str | None:
    if promote <= plan.deadline:
        return None
    if live.requests <= 0:
        return "there is no traffic, and without traffic there is no evidence: send some, or deploy by hand"
    takes = "never" if math.isinf(promote) else f"in about {said(promote)}, after its deadline of {said(plan.deadline)}"
    ways = " or ".join(f"`{way}`" for way in _ways_out(plan, live, promote))
    return f"at {live.requests:.3g} requests a second this plan would decide {takes}; " + (
        f"it can with {ways}" if ways else "no change of one number helps: deploy by hand, with strategy manual"
    )


def said(seconds: float) -> str:
    """A long time as people say it: 45 s, 12 min, 3.5 h, 4 days."""
    for name, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            count = seconds / size
            return f"{count:.0f} {name}" if count >= 10 else f"{count:.2g} {name}"
    return f"{seconds:.0f} s"


def _ways_out(plan: Plan, live: Live, promote: float) -> Iterator[str]:
    """Changes of one number that would let the plan decide in time, the smallest of each kind."""
    if promote * _SLACK <= _LONGEST_DEADLINE:
        yield f"deadline: {math.ceil(promote * _SLACK / 1800) / 2:g}h"
    for margin in (3.0, 4.0, 6.0, 10.0):
        if margin > plan.margin and _promote(replace(plan, margin=margin), live) <= plan.deadline:
            yield f"margin: {margin:g}"
            break
    for objective in (0.002, 0.005, 0.01, 0.02, 0.05):
        easier = replace(plan, guardrails=tuple(_with_objective(g, objective) for g in plan.guardrails))
        if easier != plan and _promote(easier, live) <= plan.deadline:
            yield f"objective: {objective:g}"
            break


_SLACK = 1.5  # real times scatter around the expected one
_LONGEST_DEADLINE = 7 * 24 * 3600.0


def _with_objective(guardrail: Guardrail, objective: float) -> Guardrail:
    tested = guardrail.watched is Watched.ERRORS and guardrail.required
    return replace(guardrail, objective=max(objective, guardrail.objective or 0.0)) if tested else guardrail


def _share(theta: float, weight: float) -> float:
    """The candidate's share of bad units at relative risk theta."""
    return theta * weight / (theta * weight + 1 - weight)


def _divergence(p: float, q: float) -> float:
    """Kullback-Leibler divergence of two coins, in nats."""
    if not 0 < q < 1:
        return 0.0
    terms = ((p, q), (1 - p, 1 - q))
    return sum(a * math.log(a / b) for a, b in terms if a > 0)


def _against_objective(rate: float, claimed: float, objective: float) -> float:
    """Expected evidence of one request that fails with `rate`, for a failure rate of `claimed` against `objective`."""
    if claimed == 0 and rate > 0:
        return 0.0
    failed = rate * math.log(claimed / objective) if rate else 0.0
    return failed + (1 - rate) * (math.log1p(-claimed) - math.log1p(-objective))
