"""Two looks at both versions of a rollout become one stretch of time with its counts, or the reason why not. Pure.

Both versions or none: only processes that were seen at both ends count, a request counts where Envoy saw it end, and
an engine run counts unless a caller who chose the version by himself may have been in it.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from contracts.metrics import LATENCY_SECONDS, PREDICTION_BIN_COUNT
from deploy.evidence.blocks import NOTHING, Arm, Block
from deploy.evidence.counted import NO_BINS, Bins, Counted
from deploy.evidence.counters import (
    Fact,
    Gap,
    GapKind,
    Kind,
    Sample,
    Series,
    Source,
    Told,
    Uncounted,
    grown,
    was_reset,
)

SLACK = 8  # requests that end between the reading of one counter and of the next

# Made once: with a thousand rollouts, making them anew would be most of a tick's work here.
_WITHIN = tuple(Series(Fact.WITHIN, i) for i in range(len(LATENCY_SECONDS)))
_BINS = tuple(Series(Fact.PREDICTED, i) for i in range(PREDICTION_BIN_COUNT))

Growth = Counter[Series]
_WITHIN = tuple(Series(Fact.WITHIN, i) for i in range(len(LATENCY_SECONDS)))
_PREDICTED = tuple(Series(Fact.PREDICTED, i) for i in range(PREDICTION_BIN_COUNT))
Ends = dict[Source, tuple[Told, Told]]


@dataclass(frozen=True)
class Both:
    """Both versions at one look, asked for at `at` on the source's clock. `mirrored` when the candidate gets copies of
    requests and nobody its answers."""

    live: Sample
    candidate: Sample
    mirrored: bool = False
    at: float = 0.0

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        return Kind.SPLIT, Kind.MIRROR if self.mirrored else Kind.SPLIT

    @property
    def arms(self) -> tuple[Sample, Sample]:
        return self.live, self.candidate


@dataclass(frozen=True)
class Stretch:
    """What happened between two looks at Envoy, from `since` to `until` on the clock of whoever asked it, which said
    `asked` when we looked. `broken` when some of it can no longer be seen, because a process was replaced meanwhile."""

    counted: Counted
    since: float
    until: float
    asked: float
    broken: bool = False


@dataclass(frozen=True)
class Anchor:
    """Where the next stretch begins: Envoy's part and the workers' part, which may have been looked at at other times.

    pinned    engine runs since then may hold a pinned caller's rows: sent in one stretch, computed in the next
    """

    requests: Both
    runs: Both
    pinned: bool = False


def anchor(now: Both) -> Anchor | Gap:
    """Begin here. A Gap when Envoy says nothing of one of the versions."""
    try:
        for sample, kind in zip(now.arms, now.kinds, strict=True):
            _heard(sample, kind)
    except Uncounted as why:
        return why.gap
    return Anchor(now, now)


def stretch(begun: Anchor, now: Both) -> tuple[Anchor, Stretch] | Gap:
    """The stretch from `begun` to `now`, and where the next one begins. After a Gap of the kind PENDING this anchor
    still holds; after any other one there must be a new one."""
    if begun.requests.mirrored != now.mirrored:
        return Gap("what is compared has just changed", GapKind.FIRST_LOOK)
    try:
        live, candidate = _requests(begun.requests, now)
        errors, slower = _outcomes(_growth(live), _growth(candidate))
        pinned = any(map(_pinned, begun.requests.arms, now.arms))
        batches, bins, runs_from, missing = _runs(begun.runs, now)
        if (pinned or begun.pinned) and _mixed(begun, now):
            batches, bins = NOTHING, NO_BINS
    except Uncounted as why:
        return why.gap
    ends = [*live.values(), *candidate.values()]
    found = Stretch(
        Counted(errors, batches, slower, bins, partial=missing),
        since=min(before.at for before, _ in ends),
        until=max(after.at for _, after in ends),
        asked=now.at,
        broken=any(was_reset(before, after) for before, after in ends),
    )
    return Anchor(now, runs_from, pinned), found


def _requests(before: Both, now: Both) -> tuple[Ends, Ends]:
    """Envoys seen at both ends for both versions. Envoy is asked about all versions at once, so both versions' counts
    are of the same moments."""
    live, candidate = map(_ends, before.arms, now.arms, now.kinds)
    names = {s.name for s in live} & {s.name for s in candidate}
    if not names:
        raise Uncounted("Envoy was not seen at both ends of a stretch for both versions", GapKind.FIRST_LOOK)
    live, candidate = ({s: pair for s, pair in ends.items() if s.name in names} for ends in (live, candidate))
    if any(after.at <= before.at for before, after in (*live.values(), *candidate.values())):
        raise Uncounted("there is no newer sample of Envoy yet", GapKind.PENDING)
    return live, candidate


def _runs(before: Both, now: Both) -> tuple[Block, Bins, Both, str]:
    """Engine runs and predictions, where they are counted from next, and what is missing. What is missing for one of
    the versions is missing for both; the requests, which Envoy counts, are none the less evidence."""
    try:
        live, candidate = (_paired(b, a) for b, a in zip(before.arms, now.arms, strict=True))
        if any(told.at <= past.at for past, told in (*live.values(), *candidate.values())):
            return NOTHING, NO_BINS, before, ""  # nothing newer yet; the next stretch has it
        here, there = _growth(live), _growth(candidate)
        arms = [_arm(by[Series(Fact.BATCHES)], by[Series(Fact.BATCHES_FAILED)]) for by in (here, there)]
    except Uncounted as why:
        return NOTHING, NO_BINS, now, f"engine runs are not counted: {why.gap.reason}"
    return Block(*arms), _bins(here, there), now, ""


def _pinned(before: Sample, after: Sample) -> bool:
    """Whether somebody asked for this version by name meanwhile. Not known is no."""
    growth = _growth(_ends(before, after, Kind.PINNED, needed=False))
    return any(growth.values())


def _mixed(begun: Anchor, now: Both) -> bool:
    """Whether workers answered more predictions than they were sent by the weights, when somebody may have asked one of
    them by name. To ask for a version's metadata is no prediction; only where Envoy and workers were looked at in one
    moment can that be told."""
    moments = [{t.at for arm in both.arms for t in arm.values() if isinstance(t, Told)} for both in (begun.runs, now)]
    if begun.runs is not begun.requests or any(len(each) > 1 for each in moments):
        return True
    return any(map(_more_than_sent, begun.runs.arms, now.arms))


def _more_than_sent(before: Sample, after: Sample) -> bool:
    answered = _growth(_ends(before, after, Kind.WORKER, needed=False))[Series(Fact.PREDICTIONS)]
    ways = [_growth(_ends(before, after, kind, needed=False)) for kind in (Kind.SPLIT, Kind.MIRROR)]
    return answered > sum(growth[Series(Fact.SENT)] for growth in ways)


def _heard(sample: Sample, kind: Kind) -> dict[Source, Told]:
    """What the sources of a kind said. Raises Uncounted when one of them said nothing, or there are none."""
    found: dict[Source, Told] = {}
    for source, told in sample.items():
        if source.kind is kind:
            if isinstance(told, Gap):
                raise Uncounted(told.reason, told.kind)
            found[source] = told
    if not found:
        raise Uncounted(f"nobody counts the {_WHAT[kind]} of one of the versions", GapKind.MISSING)
    return found


_WHAT = {
    Kind.SPLIT: "requests",
    Kind.MIRROR: "mirrored requests",
    Kind.PINNED: "pinned requests",
    Kind.WORKER: "engine runs",
}


def _ends(before: Sample, after: Sample, kind: Kind, *, needed: bool = True) -> Ends:
    """Those seen at both ends. Who was seen at one end only began, ended or was not asked in between, and nobody knows
    which of what it counted belongs here."""
    heard = _heard(after, kind) if needed else {s: t for s, t in after.items() if s.kind is kind}
    return {
        source: (past, told)
        for source, told in heard.items()
        if isinstance(past := before.get(source), Told) and isinstance(told, Told)
    }


def _paired(before: Sample, after: Sample) -> Ends:
    """The workers. Raises Uncounted when none was seen at both ends."""
    if ends := _ends(before, after, Kind.WORKER):
        return ends
    raise Uncounted("no worker of one of the versions was seen at both ends of a stretch", GapKind.FIRST_LOOK)


def _growth(ends: Ends) -> Growth:
    total: Growth = Counter()
    for before, after in ends.values():
        for series, more in grown(before, after).items():
            total[Series(series.fact, series.bound) if series.cluster else series] += more
    return total


def _outcomes(live: Growth, candidate: Growth) -> tuple[Block, tuple[Block, ...]]:
    """Errors, and one block per bound of durations: requests slower than it."""
    errors, *slower = (Block(here, there) for here, there in zip(_arms(live), _arms(candidate), strict=True))
    return errors, tuple(slower)


def _arms(by: Growth) -> Iterable[Arm]:
    """A caller who left before the answer is nobody's failure: people leave. But he waited longer than he would, so
    among the durations he counts as slower than every bound; otherwise a version too slow for its callers would be
    judged by those who stayed."""
    yield _arm(by[Series(Fact.ANSWERED)] - by[Series(Fact.REFUSED)], by[Series(Fact.FAILED)] + by[Series(Fact.SAVED)])
    timed = by[Series(Fact.TIMED)] + max(0, by[Series(Fact.CUT)] - by[Series(Fact.TIMED_OUT)])
    slow, arm = 0, _arm(timed, 0)
    for within in _WITHIN:
        if timed - by[within] != slow:  # most bounds are passed by as many as their neighbours
            slow = timed - by[within]
            arm = _arm(timed, slow)
        yield arm


def _arm(units: int, bad: int) -> Arm:
    """Raises Uncounted when counters contradict each other by more than the moment between reading one and the next
    explains."""
    if bad < -SLACK or bad > units + SLACK:
        raise Uncounted(f"counters contradict each other: {bad} bad of {units}", GapKind.CONTRADICTION)
    units = max(0, units)
    return Arm(units, min(max(0, bad), units))


def _bins(live: Growth, candidate: Growth) -> Bins:
    here, there = (tuple(map(by.__getitem__, _PREDICTED)) for by in (live, candidate))
    return Bins(here, there) if any(here) and any(there) else NO_BINS
