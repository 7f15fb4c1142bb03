"""Raw counters out of what Prometheus stored, with the questions that get them. Pure; asking is deploy/prometheus.py.

Only raw samples are asked for (a bare range selector), never rate() or increase(), which guess what happened between
a window's edges and the samples nearest to them. What `up` says of a target tells when it was scraped, whether that
succeeded, and by that whether a series that is not there was not exported or not asked for.
"""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from deploy.evidence.counters import Gap, GapKind, Kind, Sample, Series, Source, Told, Version
from deploy.evidence.scraped import BEGAN, ENVOY_SERIES, UPTIME, WORKER_SERIES, add, read

WINDOW = 45  # seconds of raw samples that are asked for: what is older is not there
STALE_SECONDS = 30.0  # without a scrape, after which a target says nothing about now

ENVOYS = (Kind.SPLIT, Kind.MIRROR, Kind.PINNED)


class Target(NamedTuple):
    """One process as Prometheus knows it."""

    job: str
    instance: str

    def __str__(self) -> str:
        return f"{self.job}/{self.instance}"


class Line(NamedTuple):
    """One series of an answer: its labels, and its raw samples as (seconds, value), oldest first."""

    labels: Mapping[str, str]
    values: Sequence[tuple[float, float]]

    @property
    def target(self) -> Target:
        return Target(self.labels.get("job", ""), self.labels.get("instance", ""))

    def at(self, moment: float) -> float | None:
        """The value that was scraped then; None when the series was not exported then."""
        return next((value for when, value in reversed(self.values) if when == moment), None)


Serves = frozenset[tuple[str, int, Kind]]
"""What a target counts: models and versions, and whose requests. Version 0 is every version of the model."""


def counters_of(models: Collection[str]) -> str:
    """The question for everything that is counted of these models."""
    return f"{_matching(__name__=sorted(ENVOY_SERIES | WORKER_SERIES), model=sorted(models))}[{WINDOW}s]"


def targets_of(targets: Collection[Target]) -> str:
    """The question for when these targets were scraped, and how long they live."""
    return f"{_which(['up', BEGAN, UPTIME], targets)}[{WINDOW}s]"


def present_of(targets: Collection[Target]) -> str:
    """The question for which of them are targets still: one that was taken away is marked, and its samples stay."""
    return _which(["up"], targets)


def _which(names: Sequence[str], targets: Collection[Target]) -> str:
    return _matching(
        __name__=names, job=sorted({t.job for t in targets}), instance=sorted({t.instance for t in targets})
    )


def _matching(**labels: Sequence[str]) -> str:
    # Patterns are anchored at both ends. In Prometheus' raw strings nothing but the backquote needs escaping, and no
    # name of ours holds one; a label that Prometheus was configured with might.
    pairs = (f"{name}=~`{'|'.join(re.escape(v) for v in values if '`' not in v)}`" for name, values in labels.items())
    return f"{{{','.join(pairs)}}}"


def lines(result: Iterable[Any]) -> list[Line]:
    """The series of an answer, of one moment or of several. Raises ValueError, KeyError or TypeError for what is
    none."""
    return [_line(each["metric"], each["values"] if "values" in each else [each["value"]]) for each in result]


def _line(labels: Mapping[str, str], values: Sequence[Any]) -> Line:
    if not labels["__name__"] or not values:
        raise ValueError("a series without a name or without samples")
    return Line(labels, [(float(at), float(value)) for at, value in values])


def served(counters: Iterable[Line]) -> dict[Target, Serves]:
    """Who counts what. An Envoy that counts one version of a model counts them all."""
    found: dict[Target, set[tuple[str, int, Kind]]] = defaultdict(set)
    for line in counters:
        for (model, version), kind, _ in read(line.labels["__name__"], line.labels):
            own = [(model, version, kind)] if kind is Kind.WORKER else [(model, 0, each) for each in ENVOYS]
            found[line.target].update(own)
    return {target: frozenset(whats) for target, whats in found.items()}


@dataclass(frozen=True)
class Scraped:
    """A target's successful scrapes, oldest first. `gap` says why it tells nothing about now."""

    at: tuple[float, ...] = ()
    lives: Line | None = None
    gap: Gap | None = None

    def until(self, moment: float) -> "Scraped":
        """As it stood then."""
        return replace(self, at=tuple(at for at in self.at if at <= moment))

    def nearest(self, moment: float) -> float:
        """The scrape nearest to a moment, the earlier one of two."""
        i = bisect_left(self.at, moment)
        return min(self.at[max(0, i - 1) : i + 1], key=lambda at: abs(at - moment))

    def life(self, at: float) -> float:
        found = None if self.lives is None else self.lives.at(at)
        if found is None or self.lives is None:
            return 0.0
        return found if self.lives.labels["__name__"] == UPTIME else -found


def scrapes(states: Iterable[Line], present: Collection[Target], asked: float) -> dict[Target, Scraped]:
    """What was scraped when, of those that are targets still."""
    ups: dict[Target, list[Line]] = defaultdict(list)
    lives: dict[Target, Line] = {}
    for line in states:
        if line.labels["__name__"] == "up":
            ups[line.target].append(line)
        elif line.labels["__name__"] == UPTIME or line.target not in lives:  # Envoy's own is the better one
            lives[line.target] = line
    return {target: _scraped(target, ups[target], lives.get(target), asked) for target in ups.keys() & set(present)}


def _scraped(target: Target, ups: Sequence[Line], life: Line | None, asked: float) -> Scraped:
    if len(ups) > 1:
        return Scraped(gap=Gap(f"Prometheus has several targets called {target}", GapKind.MISSING))
    newest, value = ups[0].values[-1]
    if value != 1 and asked - newest <= STALE_SECONDS:
        return Scraped(gap=Gap(f"Prometheus cannot scrape {target}: its up is {value:g}", GapKind.MISSING))
    return Scraped(tuple(at for at, value in ups[0].values if value == 1), life)


@dataclass(frozen=True)
class Answered:
    """What Prometheus answered about some models, when its clock said `asked`. `known` holds the targets of former
    answers, too: one that has been down for so long that its counters are gone is still one that should speak."""

    counters: Sequence[Line]
    targets: Mapping[Target, Scraped]
    known: Mapping[Target, Serves]
    asked: float


def samples(answered: Answered, versions: Collection[Version]) -> Mapping[Version, Sample]:
    """What is known of each version."""
    moments = _moments(answered)
    found: dict[Version, dict[Source, Told | Gap]] = {version: {} for version in versions}
    of_model: dict[str, list[Version]] = defaultdict(list)
    for version in versions:
        of_model[version[0]].append(version)
    counts: dict[tuple[Version, Source], dict[Series, float]] = {}
    for target, serves in answered.known.items():
        for model, only, kind in serves if target in answered.targets else ():
            source, moment = Source(kind, str(target)), moments[target, model]
            for version in [each for each in of_model[model] if only in (0, each[1])]:
                if isinstance(moment, Gap):
                    found[version][source] = moment
                    continue
                mine = counts[version, source] = {}
                found[version][source] = Told(moment, answered.targets[target].life(moment), mine)
    for line in answered.counters:
        for version, kind, series in read(line.labels["__name__"], line.labels):
            known, taken = counts.get((version, Source(kind, str(line.target)))), moments.get((line.target, version[0]))
            if known is not None and isinstance(taken, float) and (value := line.at(taken)) is not None:
                add(known, series, value)
    return {version: sample for version, sample in found.items() if sample}


Moments = dict[tuple[Target, str], float | Gap]


def _moments(answered: Answered) -> Moments:
    """Which scrape of each target to take for each of its models. Of Envoy the newest: it counts both versions in one
    scrape. Workers are scraped at times of their own; those of one model are taken as near to each other as they come,
    so that a bad moment that both versions share falls into the same stretch for both."""
    moments: Moments = {}
    workers: dict[str, dict[Target, Scraped]] = defaultdict(dict)
    for (target, model), scraped in _of_models(answered).items():
        if scraped.gap is not None:
            moments[target, model] = scraped.gap
        elif any(kind is Kind.WORKER for _, _, kind in answered.known[target]):
            workers[model][target] = scraped
        else:
            moments[target, model] = scraped.at[-1]
    for model, each in workers.items():
        oldest = min(scraped.at[-1] for scraped in each.values())
        moments |= {(target, model): scraped.nearest(oldest) for target, scraped in each.items()}
    return moments


def _of_models(answered: Answered) -> dict[tuple[Target, str], Scraped]:
    """Each target's scrapes as far as this answer knows their counters: they were asked for before `up` was, and a
    scrape may have come in between. What Prometheus stores of one scrape appears at once."""
    latest: dict[tuple[Target, str], float] = {}
    for line in answered.counters:
        if line.values:
            key = line.target, line.labels.get("model", "")
            latest[key] = max(latest.get(key, 0.0), line.values[-1][0])
    found = {}
    for target, serves in answered.known.items():
        for model in {model for model, _, _ in serves} if target in answered.targets else ():
            scraped = answered.targets[target].until(latest.get((target, model), 0.0))
            age = answered.asked - scraped.at[-1] if scraped.at else WINDOW
            if scraped.gap is None and age > STALE_SECONDS:
                said = f"the newest counters that Prometheus has of {target} are {age:.0f} s old or older"
                scraped = Scraped(gap=Gap(said, GapKind.STALE))
            found[target, model] = scraped
    return found
