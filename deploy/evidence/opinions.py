"""What a rollout is told when two sources count the same requests: Prometheus, and this gateway's own scraper. Pure.

Prometheus is believed while it is whole and agrees with what we see ourselves; when it cannot be asked, is stale or
lacks something, the own scraper speaks; when the two contradict each other, nobody does. Whoever speaks, no request
counts twice: where one takes over from the other, it begins later than the other has ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf, nextafter
from typing import NamedTuple

from deploy.evidence.counters import Gap, GapKind
from deploy.evidence.pairing import SLACK, Anchor, Both, Stretch, anchor, stretch

TOLERANCE = 0.05  # by which totals of the same stretch may differ
BACK_SECONDS = 10.0  # Prometheus must have been well for so long before it is believed again
HANDOVER_SECONDS = 10.0  # longer than any look takes: what Prometheus scrapes after it, our own look had not seen
SCRAPE_SECONDS = 5.0  # a scrape reads its counters at most so long after the time it is filed under
COMPARED_SECONDS = 600.0  # of the stretch over which totals are compared; then it begins anew
REMEMBERED_SECONDS = 60.0  # of our own looks; longer than any sample of Prometheus may be old
CLEAN_SECONDS = 30.0  # without a contradiction, at least, before a source that was contradicted is believed

_WAITING = frozenset({GapKind.PENDING, GapKind.FIRST_LOOK})


@dataclass(frozen=True)
class Line:
    """One source, from stretch to stretch. What it told of before `floor`, on its own clock, is no beginning."""

    begun: Anchor | None = None
    floor: float = -inf


def follow(line: Line, heard: Both | Gap) -> tuple[Line, Stretch | Gap]:
    """What is new, and where the next stretch begins."""
    if isinstance(heard, Gap):
        return (line if heard.kind is GapKind.PENDING else _lost(line)), heard
    if line.begun is None:
        return _begin(line, heard)
    found = stretch(line.begun, heard)
    if not isinstance(found, Gap):
        return replace(line, begun=found[0]), found[1]
    if found.kind is GapKind.PENDING:
        return line, found
    begun = anchor(heard)
    return (_lost(line) if isinstance(begun, Gap) else replace(line, begun=begun)), found


def _lost(line: Line) -> Line:
    """To begin anew with something newer: what it goes back to would span the time in which it could not tell."""
    if line.begun is None:
        return line
    newest = max(t.at for arm in line.begun.requests.arms for t in arm.values() if not isinstance(t, Gap))
    return Line(floor=max(line.floor, nextafter(newest, inf)))


def _begin(line: Line, heard: Both) -> tuple[Line, Gap]:
    begun = anchor(heard)
    if isinstance(begun, Gap):
        return line, begun
    told = [t.at for sample in heard.arms for t in sample.values() if not isinstance(t, Gap)]
    if min(told) < line.floor:
        return line, Gap("it has not looked again since it was asked last", GapKind.PENDING)
    return replace(line, begun=begun), Gap("this is the first look at its counters", GapKind.FIRST_LOOK)


class Totals(NamedTuple):
    """Requests of either version."""

    live: int = 0
    candidate: int = 0


NO_TOTALS = Totals()


class Moment(NamedTuple):
    """How many requests our own scraper had seen end, when Prometheus' clock said `at` or a little later."""

    at: float
    seen: Totals


@dataclass(frozen=True)
class Comparison:
    """Totals of both sources over one stretch, since Prometheus' scrape of `since`. `told` is what Prometheus counted
    since then; `before` and `after` are what our own scraper had seen surely no later and surely no earlier than it,
    None where that is not known yet. `seen` is what it has seen in all, the history at which times."""

    history: tuple[Moment, ...] = ()
    seen: Totals = NO_TOTALS
    since: float | None = None
    before: Totals | None = None
    after: Totals | None = None
    told: Totals = NO_TOTALS
    needed: float = 0.0  # seconds without a contradiction until Prometheus is believed


@dataclass(frozen=True)
class Opinions:
    """Where one rollout is with its two sources. `well` is since when Prometheus is well again, while our own scraper
    speaks in its place."""

    theirs: Line = field(default_factory=Line)
    own: Line = field(default_factory=Line)
    by_own: bool = False
    well: float | None = None
    comparison: Comparison = field(default_factory=Comparison)


def weigh(
    past: Opinions, theirs: Both | Gap, own: Both | Gap, asked: float | None, now: float
) -> tuple[Opinions, Stretch | Gap]:
    """What the rollout is told. `asked` is what Prometheus' clock said when it was asked, None when it did not answer
    just now; `now` is our monotonic one."""
    their_line, told = follow(past.theirs, theirs)
    own_line, seen = follow(past.own, own)
    here = replace(past, theirs=their_line, own=own_line, comparison=_remembered(past.comparison, seen, told, asked))
    fault = _fault(told)
    if past.by_own:
        # Well is who told of a whole stretch, and of nothing else since. To be waited for is not enough.
        well = None if fault is not None else here.well if isinstance(told, Gap) or here.well is not None else now
        return _by_own(replace(here, well=well), seen, fault, asked, now)
    if fault is not None:
        # Not at once: what this look of ours begins with, Prometheus may have counted already.
        gone = replace(here, by_own=True, well=None, comparison=_alone(here.comparison))
        return gone, Gap(f"Prometheus: {fault.reason}; from the next look on, the own scraper counts", fault.kind)
    if isinstance(told, Gap):
        return here, told
    comparison, contradiction = _compare(here.comparison, told)
    return replace(here, comparison=comparison), contradiction or told


def _by_own(
    here: Opinions, seen: Stretch | Gap, fault: Gap | None, asked: float | None, now: float
) -> tuple[Opinions, Stretch | Gap]:
    here = replace(here, comparison=_alone(here.comparison))
    if here.well is not None and asked is not None and now - here.well >= BACK_SECONDS:
        here = replace(here, by_own=False, well=None, theirs=Line(floor=asked + HANDOVER_SECONDS))
    if isinstance(seen, Gap) and fault is not None:
        return here, Gap(f"Prometheus: {fault.reason}; own scraper: {seen.reason}", seen.kind)
    return here, seen


def _fault(told: Stretch | Gap) -> Gap | None:
    """Why Prometheus cannot be the one that speaks."""
    if isinstance(told, Stretch):
        return Gap(told.counted.partial, GapKind.MISSING) if told.counted.partial else None
    return None if told.kind in _WAITING else told


def mismatch(told: Totals, least: Totals, most: Totals, seconds: float) -> Gap | None:
    """Whether what Prometheus counted can be what our own scraper saw over the same stretch: at least `least` and at
    most `most`, because the two never look at the same moment."""
    for which, there, low, high in zip(Totals._fields, told, least, most, strict=True):
        if low * (1 - TOLERANCE) - SLACK <= there <= high * (1 + TOLERANCE) + SLACK:
            continue
        return Gap(
            f"source_mismatch: Prometheus counted {there} requests of the {which} version in {seconds:.0f} s where the "
            f"own scraper saw {low} to {high}",
            GapKind.MISMATCH,
        )
    return None


def _remembered(past: Comparison, seen: Stretch | Gap, told: Stretch | Gap, asked: float | None) -> Comparison:
    """Our own scraper's totals with this look. What is not known of either source cannot be compared across."""
    unknown = isinstance(seen, Gap) and seen.kind is not GapKind.PENDING
    if unknown or any(isinstance(each, Stretch) and each.broken for each in (seen, told)):
        return Comparison(needed=past.needed)
    total = _plus(past.seen, _units(seen)) if isinstance(seen, Stretch) else past.seen
    if asked is None:
        return replace(past, seen=total)
    recent = tuple(moment for moment in past.history if moment.at > asked - REMEMBERED_SECONDS)
    return replace(past, seen=total, history=(*recent, Moment(asked, total)))


def _alone(past: Comparison) -> Comparison:
    """While only our own scraper counts."""
    return Comparison(past.history, past.seen, needed=past.needed)


def _compare(past: Comparison, told: Stretch) -> tuple[Comparison, Gap | None]:
    """Take in a stretch of Prometheus, and say what contradicts it."""
    if past.since is None or past.before is None:
        before = _before(past.history, told.until)
        begun = past if before is None else replace(past, since=told.until, before=before, after=None, told=Totals())
        return begun, _distrust(past, 0.0)
    seconds, newest = told.until - past.since, past.seen
    total, after = _plus(past.told, _units(told)), past.after or _after(past.history, past.since)
    least = _minus(_before(past.history, told.until), after or newest)
    found = mismatch(total, least, _minus(newest, past.before), seconds)
    if found is not None:
        return replace(_alone(past), needed=max(CLEAN_SECONDS, seconds)), found
    clean = replace(past, told=total, after=after, needed=past.needed if seconds < past.needed else 0.0)
    said = _distrust(clean, seconds)
    return (_alone(clean) if seconds > max(COMPARED_SECONDS, clean.needed) else clean), said


def _distrust(past: Comparison, seconds: float) -> Gap | None:
    if not past.needed:
        return None
    return Gap(
        "source_mismatch: Prometheus and the own scraper contradicted each other, and have agreed for only "
        f"{seconds:.0f} of {past.needed:.0f} s since",
        GapKind.MISMATCH,
    )


def _plus(a: Totals, b: Totals) -> Totals:
    return Totals(a.live + b.live, a.candidate + b.candidate)


def _minus(a: Totals | None, b: Totals) -> Totals:
    """How much more, at least nothing."""
    return Totals() if a is None else Totals(max(0, a.live - b.live), max(0, a.candidate - b.candidate))


def _units(stretch: Stretch) -> Totals:
    return Totals(stretch.counted.errors.live.units, stretch.counted.errors.candidate.units)


def _before(history: Sequence[Moment], at: float) -> Totals | None:
    """What our own scraper had surely seen before Prometheus' time `at`: a look ends before the next one begins."""
    for moment, following in zip(reversed(history[:-1]), reversed(history[1:]), strict=True):
        if following.at <= at:
            return moment.seen
    return None


def _after(history: Sequence[Moment], at: float) -> Totals | None:
    """What our own scraper had seen when it had surely seen all that the scrape of `at` had."""
    return next((m.seen for m in history if m.at >= at + SCRAPE_SECONDS), None)
