"""What rollouts are told, and what follows when they are told nothing: whatever fails, nothing is promoted and nothing
is rolled back by what was not counted."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import cache

import pytest

from contracts.errors import Unavailable
from contracts.metrics import LATENCY_SECONDS
from contracts.names import Color
from contracts.traffic import TOTAL
from deploy import witness as witnessing
from deploy.evidence.blocks import Arm, Block
from deploy.evidence.counted import Counted
from deploy.evidence.counters import Fact, Gap, GapKind, Kind, Looked, Sample, Series, Source, Told, Version
from deploy.rollout.deployment import Deployment, Place, State
from deploy.rollout.events import Health, Observation
from deploy.rollout.plan import BLUEGREEN, CANARY
from deploy.rollout.rules import decide
from deploy.rollout.trial import Stage, Trial
from deploy.witness import PATIENCE_SECONDS, Witness
from tests.fakes.clock import HandClock
from tests.fakes.counters import FakeCounters

LIVE, CANDIDATE = Place(1, Color.BLUE, "d1", 1), Place(2, Color.GREEN, "d2", 1)
BEFORE, AFTER = ("m", 1), ("m", 2)


def on_trial(state: State = State.CANARY, trial: Trial | None = None) -> Deployment:
    trial = trial or Trial.begin(BLUEGREEN if state is State.SHADOW else CANARY)
    if state is State.BAKING:
        trial = replace(trial, stage=Stage.BAKING)
    return Deployment("m", 7, state, LIVE, CANDIDATE, weight=trial.weight, strategy=trial.plan.strategy, trial=trial)


@dataclass
class Looking:
    """One rollout and its witness; `tick` lets time pass and is told."""

    counters: FakeCounters = field(default_factory=FakeCounters)
    clock: HandClock = field(default_factory=HandClock)
    deployment: Deployment = field(default_factory=on_trial)

    def __post_init__(self) -> None:
        self.witness = Witness(self.counters, self.clock)

    async def tick(self, seconds: float = 2.0, *, answered: int = 10, failed: int = 0) -> witnessing.Testimony:
        self.counters.answer(*BEFORE, answered * 9)
        self.counters.answer(*AFTER, answered, failed=failed)
        self.clock.move(seconds)
        await self.witness.look([self.deployment])
        return self.witness.tell(self.deployment)


def told(story: Callable[[Looking], object]) -> None:
    async def run() -> None:
        await story(Looking())  # type: ignore[misc]

    asyncio.run(run())


def test_the_first_look_is_an_anchor_and_every_further_one_tells_what_is_new():
    async def story(here: Looking) -> None:
        assert (await here.tick()).kind is GapKind.FIRST_LOOK
        second = await here.tick(failed=1)
        assert second.counted is not None
        assert second.counted.errors == Block(Arm(90, 0), Arm(10, 1))
        assert second.seconds == 2.0

    told(story)


def test_between_two_looks_nothing_is_told_and_that_is_no_gap():
    async def story(here: Looking) -> None:
        await here.tick()
        between = await here.tick(0.5)
        assert (between.counted, between.kind, here.counters.looks) == (None, None, 1)

    told(story)


def test_a_witness_that_begins_anew_drops_what_was_counted_while_nobody_watched():
    async def story(here: Looking) -> None:
        await here.tick()
        await here.tick()
        here.counters.answer(*AFTER, 5000, failed=4000)
        here.witness = Witness(here.counters, here.clock)  # the control plane was away for longer than blind_after
        assert (await here.tick(600)).kind is GapKind.FIRST_LOOK
        after = await here.tick()
        assert after.counted is not None
        assert after.counted.errors == Block(Arm(90, 0), Arm(10, 0))

    told(story)


def test_what_another_control_plane_may_have_used_is_not_used_again():
    async def story(here: Looking) -> None:
        await here.tick()
        here.witness.forget()
        assert (await here.tick()).kind is GapKind.FIRST_LOOK

    told(story)


def test_a_source_that_cannot_be_asked_is_a_gap_with_its_words_and_the_next_look_is_an_anchor():
    async def story(here: Looking) -> None:
        await here.tick()
        here.counters.broken = "Envoy's admin did not answer"
        down = await here.tick()
        assert (down.counted, down.gap, down.kind) == (None, here.counters.broken, GapKind.UNAVAILABLE)
        here.counters.broken = None
        assert (await here.tick()).kind is GapKind.FIRST_LOOK
        assert (await here.tick()).counted is not None

    told(story)


def test_a_slow_source_does_not_hold_up_the_tick_and_is_told_of_once_it_answers():
    async def story(here: Looking) -> None:
        await here.tick()
        gate, asked = asyncio.Event(), here.counters.look

        async def slow(versions: Collection[Version]) -> Looked:
            looked = await asked(versions)
            await gate.wait()
            return looked

        here.counters.look = slow  # type: ignore[method-assign]
        assert (await here.tick()).kind is None
        looks = here.counters.looks
        here.counters.answer(*AFTER, 500)  # after that look had read its counters
        assert (await here.tick(10)).counted is None
        assert here.counters.looks == looks, "one look at a time"
        gate.set()
        late = await here.tick(1)
        assert late.counted is not None
        assert late.counted.errors.candidate == Arm(10, 0)
        assert (await here.tick(2)).counted is None, "a source that took 11 s is not asked again at once"
        assert (await here.tick(40)).counted is not None

    assert PATIENCE_SECONDS < 0.5
    told(story)


def test_a_rollout_that_ended_is_forgotten_and_another_one_begins_with_an_anchor():
    async def story(here: Looking) -> None:
        await here.tick()
        running, here.deployment = here.deployment, Deployment("m", 8, State.LIVE, LIVE)
        assert await here.tick() == witnessing.Testimony()
        here.deployment = running
        assert (await here.tick()).kind is GapKind.FIRST_LOOK

    told(story)


# The matrix: what may be wrong with the evidence, in every state of a rollout.

HEALTHY = Block(Arm(9000, 9), Arm(1000, 1))


@cache
def promising(state: State) -> Deployment:
    """It needs one more look to go ahead."""
    trial = Trial.begin(BLUEGREEN if state is State.SHADOW else CANARY)
    for _ in range(100):
        slower = tuple(Block(Arm(9000, 2), Arm(1000, 0)) for _ in LATENCY_SECONDS)
        trial = trial.saw(Counted(HEALTHY, HEALTHY, slower), in_force=True)
    stage = {State.SHADOW: Stage.SHADOW, State.BAKING: Stage.BAKING}.get(state, Stage.CANARY)
    last = trial.begun(stage, 0 if state is State.SHADOW else len(trial.plan.steps) - 1)
    return on_trial(state, replace(last, dwelt=3000.0, age=3100.0, units=100_000))


@cache
def doubtful(state: State) -> Deployment:
    """It needs one more failure to be rolled back."""
    trial = Trial.begin(BLUEGREEN if state is State.SHADOW else CANARY)
    while (worse := trial.saw(Counted(Block(Arm(99, 0), Arm(1, 1)), HEALTHY), in_force=True)).harmed is None:
        trial = worse
    return on_trial(state, trial)


STATES = (State.SHADOW, State.CANARY, State.HOLD, State.BLIND, State.PAUSED, State.INCONCLUSIVE, State.BAKING)


def healthy(at: float, version: int, every: Told | None = None) -> Sample:
    """As it would look if nothing were wrong, a thousand failing requests a second later."""
    counts = {Series(Fact.ANSWERED): 1000.0 * at, Series(Fact.FAILED): 500.0 * at if version == 2 else 0.0}
    envoy = every or Told(at, 1.0, counts)
    sources: dict[Source, Told | Gap] = {Source(kind, "envoy"): envoy for kind in (Kind.SPLIT, Kind.MIRROR)}
    return {**sources, Source(Kind.WORKER, "w"): Told(at, 1.0, {Series(Fact.BATCHES): 1000.0 * at})}


def value(wrong: float) -> Callable[[float], dict[Version, Sample]]:
    def found(at: float) -> dict[Version, Sample]:
        return {BEFORE: healthy(at, 1), AFTER: healthy(at, 2, Told(at, 1.0, {Series(Fact.ANSWERED): wrong}))}

    return found


def down(*versions: int) -> Callable[[float], dict[Version, Sample]]:
    def found(at: float) -> dict[Version, Sample]:
        gap = Gap("its up is 0", GapKind.MISSING)
        whole = {("m", v): healthy(at, v) for v in (1, 2)}
        return {k: dict.fromkeys(sample, gap) if k[1] in versions else sample for k, sample in whole.items()}

    return found


FAULTS: dict[str, Callable[[float], dict[Version, Sample]]] = {
    "nothing known": lambda at: {},
    "live missing": lambda at: {AFTER: healthy(at, 2)},
    "candidate missing": lambda at: {BEFORE: healthy(at, 1)},
    "live down": down(1),
    "candidate down": down(2),
    "both down": down(1, 2),
    "not a number": value(float("nan")),
    "infinite": value(float("inf")),
    "negative": value(-1.0),
    "beyond all counting": value(1e308),
    "half a request": value(0.5),
    "never anything newer": lambda at: {BEFORE: healthy(1.0, 1), AFTER: healthy(1.0, 2)},
    "more failures than requests": lambda at: {
        BEFORE: healthy(at, 1),
        AFTER: healthy(at, 2, Told(at, 1.0, {Series(Fact.ANSWERED): at, Series(Fact.FAILED): 900 * at})),
    },
}


class Broken:
    """A source that answers with a fault, or not at all."""

    def __init__(self, clock: HandClock, fault: str) -> None:
        self._clock = clock
        self._fault = fault

    async def look(self, versions: Collection[Version]) -> Looked:
        if self._fault == "unavailable":
            raise Unavailable("it does not answer")
        if self._fault == "hangs":
            await asyncio.Event().wait()
        at = self._clock.monotonic()
        return Looked(at, FAULTS[self._fault](at))


async def actions(
    deployment: Deployment, make: Callable[[HandClock], Witness], ticks: int = 80
) -> tuple[set[str], Deployment]:
    """What a rollout does by itself in seven minutes of this evidence."""
    clock, done = HandClock(), set()
    witness = make(clock)
    for _ in range(ticks):
        clock.move(5.0)
        await witness.look([deployment])
        said = witness.tell(deployment)
        seen = Observation(Health(1), Health(1), seconds=said.seconds, counted=said.counted, gap=said.gap)
        decision = decide(deployment, seen, clock.wall())
        done |= set() if decision.action is None else {decision.action}
        deployment = decision.deployment
        if deployment.trial is None:
            break
    witness.forget()
    return done, deployment


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody here answers late but those who never do."""
    monkeypatch.setattr("deploy.witness.PATIENCE_SECONDS", 0.001)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("fault", [*FAULTS, "unavailable", "hangs"])
@pytest.mark.parametrize("begun", [promising, doubtful])
@pytest.mark.parametrize("sources", ["own", "both"])
def test_without_evidence_nothing_is_promoted_and_nothing_is_rolled_back(
    state: State, fault: str, begun: Callable[[State], Deployment], sources: str
) -> None:
    def witness(clock: HandClock) -> Witness:
        return Witness(Broken(clock, fault), clock, Broken(clock, fault) if sources == "both" else None)

    before = begun(state)
    done, after = asyncio.run(actions(before, witness))
    assert done <= {"blind", "hold", "inconclusive"}
    assert after.weight == before.weight
    assert after.trial is not None
    assert before.trial is not None
    assert after.trial.counted == before.trial.counted
    if state in (State.CANARY, State.BAKING, State.HOLD, State.BLIND) and begun is promising:
        assert (after.state, "no evidence for" in after.reason) == (State.BLIND, True)


class Counting:
    """A healthy source of a split as baking wants it; one that `doubles` counts everything twice."""

    def __init__(self, clock: HandClock, doubles: bool = False) -> None:
        self._clock = clock
        self._factor = 2 if doubles else 1

    async def look(self, versions: Collection[Version]) -> Looked:
        at = self._clock.monotonic()
        samples: dict[Version, Sample] = {}
        for version, share in ((BEFORE, 5), (AFTER, 95)):
            facts = [Series(Fact.ANSWERED), Series(Fact.TIMED), Series(Fact.BATCHES)]
            facts += [Series(Fact.WITHIN, i) for i in range(len(LATENCY_SECONDS))]
            told = Told(at, 1.0, dict.fromkeys(facts, at * share * self._factor))
            samples[version] = {Source(Kind.SPLIT, "envoy"): told, Source(Kind.WORKER, "w"): told}
        return Looked(at, samples)


def test_the_same_rollout_goes_ahead_with_evidence():
    done, _ = asyncio.run(actions(promising(State.BAKING), lambda clock: Witness(Counting(clock), clock), 5))
    assert done == {"promote"}


# Whoever asks Prometheus gives up after seconds and knows how old its answers are, so these two do not last.
PASSING = {"hangs", "never anything newer"}


@pytest.mark.parametrize("fault", [*sorted(FAULTS.keys() - PASSING), "unavailable"])
def test_whatever_is_wrong_with_prometheus_the_own_scraper_is_enough_to_go_ahead(fault: str) -> None:
    def witness(clock: HandClock) -> Witness:
        return Witness(Counting(clock), clock, Broken(clock, fault))

    done, _ = asyncio.run(actions(promising(State.BAKING), witness, 20))
    assert done == {"promote"}


def test_whatever_is_wrong_with_the_own_scraper_prometheus_is_enough_to_go_ahead():
    def witness(clock: HandClock) -> Witness:
        return Witness(Broken(clock, "unavailable"), clock, Counting(clock))

    assert asyncio.run(actions(promising(State.BAKING), witness, 5))[0] == {"promote"}


def test_two_sources_that_contradict_each_other_blind_a_rollout_with_both_numbers() -> None:
    def witness(clock: HandClock) -> Witness:
        return Witness(Counting(clock), clock, Counting(clock, doubles=True))

    done, after = asyncio.run(actions(on_trial(State.BAKING), witness, 60))
    assert done == {"blind"}
    assert "source_mismatch" in after.reason
    assert after.weight == TOTAL - CANARY.holdback
