"""Latency, predictions, the bake and mirrored answers in simulated time, through the real decisions.

How long harm lasts before it is found, how often a healthy candidate is taken for a worse one, and how long it takes.
100 requests a second unless said."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from contracts.traffic import TOTAL
from deploy.evidence.blocks import Arm, Block
from deploy.evidence.counted import Compared, Counted
from deploy.rollout.deployment import Deployment, State
from deploy.rollout.plan import CANARY, DEFAULT_GUARDRAILS, SHADOW, Guardrail, Plan, Step, Strategy, Watched
from deploy.rollout.rules import decide
from deploy.rollout.trial import Stage
from tests.deploy.rollout.simulated import TICK, Version, lognormal, look, served, started, traffic

HALF_AN_HOUR = 360
USUAL = Version(answers=())
LATENCY = Guardrail(Watched.LATENCY, 1.0)
STRICT = replace(LATENCY, tolerance=1.0)


def standing(weight: int, guardrail: Guardrail) -> Plan:
    """One guardrail with all of alpha, at one weight for ever."""
    return Plan(Strategy.CANARY, steps=(Step(weight, 1e6),), guardrails=(guardrail,), deadline=1e7)


def found_after(
    d: Deployment, counted: Callable[[Deployment], Counted], states: set[State], most: int = HALF_AN_HOUR
) -> float:
    for i in range(1, most + 1):
        d = decide(d, look(counted(d)), 0.0).deployment
        if d.state in states:
            return i * TICK
    return math.inf


def slower(weight: int, guardrail: Guardrail, candidate: Version, runs: int, most: int = HALF_AN_HOUR) -> list[float]:
    """Seconds until a candidate is rolled back for its latency. The first five seconds tell the live quantiles."""
    rng, times = np.random.default_rng(20261121), []
    for _ in range(runs):
        first = served(rng, 100, weight / TOTAL, USUAL, USUAL)
        d = decide(started(standing(weight, guardrail)), look(first), 0.0).deployment
        times.append(
            found_after(d, lambda _: served(rng, 100, weight / TOTAL, USUAL, candidate), {State.ROLLED_BACK}, most)
        )
    return times


def of(median: float = 0.020, *, rarely: float = 0.0) -> Version:
    return Version(durations=lognormal(median, rarely=rarely), answers=())


@pytest.mark.parametrize(
    ("candidate", "weight", "strict", "usual"),
    [
        (of(0.024), 1000, 60, 155),
        (of(0.024), 5000, 35, 95),
        (of(0.030), 1000, 20, 30),
        (of(0.030), 5000, 15, 20),
        (of(rarely=0.02), 1000, 65, 80),
        (of(rarely=0.02), 5000, 38, 55),
    ],
    ids=["20 % slower at 10 %", "at 50 %", "50 % slower at 10 %", "at 50 %", "2 % ten times slower at 10 %", "at 50 %"],
)
def test_a_slower_candidate_is_found_within_a_minute_or_three(
    candidate: Version, weight: int, strict: float, usual: float
) -> None:
    assert np.median(slower(weight, STRICT, candidate, 15)) == pytest.approx(strict, rel=0.35, abs=TICK)
    assert np.median(slower(weight, LATENCY, candidate, 15)) == pytest.approx(usual, rel=0.35, abs=TICK)


def test_a_candidate_that_is_as_fast_or_faster_or_a_tenth_slower_is_no_harm() -> None:
    assert sum(map(math.isfinite, slower(1000, STRICT, USUAL, 25))) == 0
    assert sum(map(math.isfinite, slower(5000, STRICT, of(0.016), 5))) == 0
    assert sum(map(math.isfinite, slower(1000, LATENCY, of(0.022), 10, most=120))) <= 1


def differs(weight: int, shares: np.ndarray, runs: int, most: int = HALF_AN_HOUR) -> list[float]:
    rng = np.random.default_rng(20261121)
    guardrail = Guardrail(Watched.PREDICTIONS, 1.0, required=False)
    candidate = Version(answers=tuple(shares))
    return [
        found_after(
            started(standing(weight, guardrail)),
            lambda _: served(rng, 100, weight / TOTAL, Version(), candidate),
            {State.HOLD},
            most,
        )
        for _ in range(runs)
    ]


def test_predictions_that_shift_by_an_index_of_a_tenth_hold_the_rollout_within_a_minute() -> None:
    """A population stability index of 0.10, which is 0.018 bits."""
    times = differs(1000, np.array([0.131] * 5 + [0.069] * 5), 30)
    assert np.median(times) == pytest.approx(40, abs=15)


def test_one_class_only_is_seen_in_three_looks() -> None:
    assert max(differs(1000, np.eye(10)[3], 10)) <= 3 * TICK


def test_predictions_that_do_not_differ_hold_nothing() -> None:
    assert sum(map(math.isfinite, differs(1000, np.full(10, 0.1), 40, 120))) <= 1


@pytest.mark.parametrize(
    ("holdback", "risk", "seconds"), [(100, 3, 715), (500, 3, 147), (1000, 3, 77), (500, 2, 435), (500, 10, 20)]
)
def test_harm_that_shows_after_the_switch_is_found_in_the_time_that_was_worked_out(
    holdback: int, risk: float, seconds: float
) -> None:
    """The comparison goes on against the holdback: 1 % of requests fail on it."""
    plan = Plan(
        Strategy.CANARY,
        steps=(Step(5000, 0.0),),
        guardrails=(Guardrail(Watched.ERRORS, 1.0),),
        holdback=holdback,
        bake=3600.0,
    )
    rng, times = np.random.default_rng(20261121), []
    for _ in range(40):
        d = started(plan)
        assert d.trial is not None
        d = replace(d, state=State.BAKING, weight=TOTAL - holdback, trial=d.trial.begun(Stage.BAKING, 0))
        baking = found_after(
            d, lambda _: traffic(rng, 100, 1 - holdback / TOTAL, 0.01, 0.01 * risk), {State.ROLLED_BACK}, 700
        )
        times.append(baking)
    assert np.mean(times) == pytest.approx(seconds, rel=0.3, abs=TICK)


def mirrored(rng: np.random.Generator, differing: float) -> Counted:
    """Fifty mirrored requests."""
    different = int(rng.binomial(50, differing))
    both = Block(Arm(500, 0), Arm(50, 0))
    return Counted(both, both, compared=Compared(50 - different, different))


def test_mirrored_answers_have_a_verdict_within_the_first_minute_after_their_time() -> None:
    rng = np.random.default_rng(20261121)
    for differing, said in ((0.01, "shown alike"), (0.2, "answers to mirrored requests differ")):
        for _ in range(10):
            d = started(SHADOW)
            for _ in range(int(SHADOW.mirror_for / TICK) + 12):
                d = decide(d, look(mirrored(rng, differing)), 0.0).deployment
            assert said in d.reason


def test_mirrored_answers_at_the_share_that_may_differ_are_rarely_said_to_be_either() -> None:
    rng, either = np.random.default_rng(20261121), 0
    for _ in range(100):
        d = started(SHADOW)
        for _ in range(240):
            d = decide(d, look(mirrored(rng, 0.05)), 0.0).deployment
            if "shown alike" in d.reason or "mirrored requests differ" in d.reason:
                either += 1
                break
    assert either <= 14  # the 99.9 % bound of 100 tries at 6 %


@pytest.mark.parametrize("rps", [20, 30, 100])
def test_a_healthy_candidate_under_light_traffic_is_promoted_in_its_plans_time(rps: float) -> None:
    """All default guardrails, durations of a real model with a rare tenfold one; nobody fails."""
    rng = np.random.default_rng(20261121)
    healthy = Version(durations=lognormal(rarely=0.002))
    for _ in range(3):
        d, ended = started(CANARY), math.inf
        ended = found_after(
            d, lambda d: served(rng, rps, d.weight / TOTAL, healthy, healthy), {State.PROMOTED, State.ROLLED_BACK}
        )
        assert ended <= 1.1 * CANARY.shortest


def test_a_short_plan_with_an_objective_that_fits_it_takes_its_time_and_no_more() -> None:
    """Steps of ten seconds, as somebody shows them to others: 300 requests are enough for 1 %, not for 0.1 %."""
    fits = tuple(replace(g, objective=0.01) if g.watched is Watched.ERRORS else g for g in DEFAULT_GUARDRAILS)
    plan = replace(CANARY, steps=(Step(1000, 10.0), Step(5000, 10.0)), bake=10.0, guardrails=fits)
    rng, quick = np.random.default_rng(20261121), Version(durations=lognormal(0.0015, 0.4))
    times = [
        found_after(started(plan), lambda d: served(rng, 100, d.weight / TOTAL, quick, quick), {State.PROMOTED})
        for _ in range(10)
    ]
    assert np.median(times) <= plan.shortest + TICK
