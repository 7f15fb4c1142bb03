"""Two sources of the same counts: who is believed when, that nothing counts twice, and what a contradiction comes to.

The world here is a number of requests that grows with time; Prometheus scrapes it every few seconds on a clock of its
own, our own scraper reads it at every look."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.evidence.counters import Fact, Gap, GapKind, Kind, Series, Source, Told
from deploy.evidence.opinions import BACK_SECONDS, CLEAN_SECONDS, Opinions, Totals, mismatch, weigh
from deploy.evidence.pairing import Both, Stretch

LOOK = 2.0
AHEAD = 5_000_000.0  # seconds by which Prometheus' clock is ahead of ours
DOWN = Gap("it does not answer", GapKind.UNAVAILABLE)


@dataclass
class World:
    """`exaggerates` is what Prometheus makes of a count; `lag` how long after a look it scrapes, up to `every`."""

    rate: float = 100.0
    every: float = 5.0
    lag: float = 0.3
    exaggerates: float = 1.0
    began: float = 0.0
    now: float = 1000.0
    opinions: Opinions = field(default_factory=Opinions)
    told: list[tuple[float, float]] = field(default_factory=list)  # stretches that were told, on our clock
    by_own: list[bool] = field(default_factory=list)

    def counts(self, at: float, at_source: float, factor: float = 1.0, partial: bool = False) -> Both:
        arms = []
        for share in (0.9, 0.1):
            seen = float(int(self.rate * share * (at - self.began) * factor))
            arm: dict[Source, Told | Gap] = {
                Source(Kind.SPLIT, "envoy"): Told(at_source, at - self.began, {Series(Fact.ANSWERED): seen}),
                Source(Kind.WORKER, "w"): Told(at_source, 1.0, {Series(Fact.BATCHES): seen}),
            }
            if partial:
                arm[Source(Kind.WORKER, "w")] = Gap("worker w is down", GapKind.MISSING)
            arms.append(arm)
        return Both(arms[0], arms[1], at=at_source)

    def prometheus(self, partial: bool = False) -> Both:
        """Its newest scrape."""
        scraped = (self.now - self.lag) // self.every * self.every + self.lag
        return self.counts(scraped, scraped + AHEAD, self.exaggerates, partial)

    def own(self) -> Both:
        return self.counts(self.now, self.now)

    def look(self, theirs: Both | Gap | None = None, own: Both | Gap | None = None) -> Stretch | Gap:
        self.now += LOOK
        theirs, own = theirs or self.prometheus(), own or self.own()
        asked = None if isinstance(theirs, Gap) else self.now + AHEAD
        was = self.opinions.by_own
        self.opinions, said = weigh(self.opinions, theirs, own, asked, self.now)
        self.by_own.append(self.opinions.by_own)
        if isinstance(said, Stretch):
            offset = 0.0 if was else AHEAD
            self.told.append((said.since - offset, said.until - offset))
        return said

    def looks(self, seconds: float, **faults: Both | Gap | None) -> list[Stretch | Gap]:
        return [self.look(**faults) for _ in range(round(seconds / LOOK))]

    def gaps(self, seconds: float, **faults: Both | Gap | None) -> set[GapKind]:
        return {said.kind for said in self.looks(seconds, **faults) if isinstance(said, Gap)}


def test_prometheus_is_believed_while_it_is_whole_and_tells_everything_once():
    world = World()
    assert world.gaps(600) == {GapKind.FIRST_LOOK, GapKind.PENDING}
    assert not any(world.by_own)
    assert all(before[1] == after[0] for before, after in zip(world.told, world.told[1:], strict=False))
    assert world.told[-1][1] - world.told[0][0] > 590


@pytest.mark.parametrize("fault", ["down", "stale", "not a number", "without engine runs"])
def test_when_prometheus_fails_the_own_scraper_counts_from_the_next_look_on(fault):
    world = World()
    world.looks(30)
    nan = {Source(Kind.SPLIT, "envoy"): Told(world.now + AHEAD, 1e9, {Series(Fact.ANSWERED): float("nan")})}

    def broken() -> Both | Gap:
        match fault:
            case "down":
                return DOWN
            case "stale":
                return Gap("its newest counters are 40 s old", GapKind.STALE)
            case "not a number":
                return Both(nan, nan)
        return world.prometheus(partial=True)

    failed, said = 0, world.look(broken())
    while not isinstance(said, Gap) or said.kind is GapKind.PENDING:
        failed, said = failed + 1, world.look(broken())
        assert failed < 3
    assert "from the next look on, the own scraper counts" in said.reason
    assert all(isinstance(world.look(broken()), Stretch) for _ in range(40))


def test_prometheus_is_believed_again_once_it_has_been_well_for_a_while():
    world = World()
    world.looks(30)
    world.looks(20, theirs=DOWN)
    world.looks(BACK_SECONDS)
    assert world.by_own[-1]
    assert GapKind.FIRST_LOOK in world.gaps(50)
    assert not world.by_own[-1]
    assert isinstance(world.looks(6)[-1], Stretch | Gap)
    assert world.told[-1][1] > world.now - 10


def test_a_prometheus_that_comes_and_goes_does_not_leave_one_without_evidence():
    world = World()
    world.looks(30)
    before = len(world.told)
    for _ in range(100):
        world.look(DOWN)
        world.looks(6)
    covered = sum(end - begin for begin, end in world.told[before:])
    assert covered > 0.6 * 800


def test_without_either_source_there_is_no_evidence_and_both_reasons():
    world = World()
    world.looks(30)
    hang = Gap("Envoy's admin did not answer", GapKind.UNAVAILABLE)
    said = world.looks(10, theirs=DOWN, own=hang)[-1]
    assert isinstance(said, Gap)
    assert said.kind is GapKind.UNAVAILABLE
    assert DOWN.reason in said.reason
    assert hang.reason in said.reason


WORLDS = st.builds(
    World,
    rate=st.floats(0.1, 2000),
    every=st.sampled_from([0.5, 1.0, 5.0, 15.0]),
    lag=st.floats(0, 5),
    now=st.floats(500, 2000),
)
FAULTS = st.sampled_from(["well", "well", "well", "down", "late", "partial", "own down", "both down", "restart"])


@settings(max_examples=60, deadline=None)
@given(WORLDS, st.lists(st.tuples(FAULTS, st.integers(1, 8)), max_size=25))
def test_no_moment_is_ever_told_twice_whatever_fails_when(world, story):
    for fault, times in story:
        for _ in range(times):
            match fault:
                case "restart":
                    world.began = world.now
                    world.look()
                case "down":
                    world.look(theirs=DOWN)
                case "late":
                    world.look(theirs=Gap("nothing new", GapKind.PENDING))
                case "partial":
                    world.look(theirs=world.prometheus(partial=True))
                case "own down":
                    world.look(own=DOWN)
                case "both down":
                    world.look(DOWN, DOWN)
                case _:
                    world.look()
    assert all(before[1] <= after[0] for before, after in zip(world.told, world.told[1:], strict=False)), world.told
    assert all(begin < end <= world.now for begin, end in world.told)


@settings(max_examples=25, deadline=None)
@given(WORLDS, st.floats(0.97, 1.03))
def test_sources_that_agree_are_never_taken_for_a_contradiction(world, nearly):
    world.exaggerates = nearly
    found = world.gaps(900)
    assert GapKind.MISMATCH not in found
    world.began = world.now
    assert GapKind.MISMATCH not in world.gaps(300), "an Envoy that restarted is no contradiction"


@pytest.mark.parametrize(("exaggerates", "within"), [(2.0, 20), (0.5, 40), (1.2, 150), (0.8, 150), (1.08, 600)])
def test_totals_that_differ_are_a_contradiction_with_both_numbers(exaggerates, within):
    world = World(exaggerates=exaggerates)
    said = [s for s in world.looks(within) if isinstance(s, Gap) and s.kind is GapKind.MISMATCH]
    assert said
    assert said[0].reason.startswith("source_mismatch: Prometheus counted ")
    assert "the own scraper saw" in said[0].reason
    assert not any(isinstance(s, Stretch) for s in world.looks(CLEAN_SECONDS - 10)), "nobody is believed meanwhile"


def test_what_was_contradicted_is_believed_again_after_it_has_agreed_for_as_long():
    world = World(exaggerates=2.0)
    world.looks(60)
    world.exaggerates = 1.0
    assert GapKind.MISMATCH in world.gaps(CLEAN_SECONDS)
    world.looks(60)
    assert world.gaps(60) <= {GapKind.PENDING}


def test_a_few_requests_more_or_less_contradict_nothing():
    assert mismatch(Totals(108, 3), Totals(100, 0), Totals(100, 0), 10.0) is None
    assert mismatch(Totals(1000, 0), Totals(990, 0), Totals(1040, 0), 10.0) is None
    found = mismatch(Totals(1000, 30), Totals(990, 60), Totals(1040, 64), 10.0)
    assert found is not None
    assert "30 requests of the candidate version in 10 s where the own scraper saw 60 to 64" in found.reason
