"""Raw counters of one version: what is counted, by whom, and how much it grew between two looks. Pure.

Differences are made series by series, because a sum over series hides that one of them began anew. What cannot be
known is a Gap with its reason and never a zero. Which looks belong together is pairing.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

MOST = 2.0**53  # a count beyond it is none: floats skip whole numbers from there on


class Fact(StrEnum):
    """What is counted of one version. All of them only grow while the process that counts them lives."""

    ANSWERED = "answered"  # requests that got a final answer, whatever it was
    REFUSED = "refused"  # of those, the caller's fault
    FAILED = "failed"  # of those, the version's fault: it erred, was too slow, too full, or died
    SAVED = "saved"  # requests whose first attempt failed and whose second did not: a failure that nobody saw
    SENT = "sent"  # attempts that were sent to a worker
    CUT = "cut"  # attempts that were given up before the answer, because the caller left or time was over
    TIMED_OUT = "timed_out"  # of those, because time was over; these callers got an answer that says so
    PREDICTIONS = "predictions"  # requests for a prediction that a worker answered, whoever sent them
    BATCHES = "batches"
    BATCHES_FAILED = "batches_failed"
    TIMED = "timed"  # requests in the histogram of durations
    WITHIN = "within"  # of those, no slower than a bound; one series per bound
    PREDICTED = "predicted"  # predictions that fell into a bin; one series per bin


class Kind(StrEnum):
    """Whose requests a source counts. The first three are how router.naming calls Envoy's clusters."""

    SPLIT = "predict"  # of callers whom the weights, or their key, sent to the version
    MIRROR = "mirror"  # copies of other versions' requests; nobody waits for the answers
    PINNED = "pinned"  # of callers who named the version themselves: never evidence
    WORKER = "worker"  # engine runs, whoever's requests were in them


class Source(NamedTuple):
    """Who counts: a process, by the name under which it is asked."""

    kind: Kind
    name: str


class Series(NamedTuple):
    """One raw counter: what it counts, up to which bound of durations or in which bin of predictions (index), and for
    which of Envoy's clusters: a version has two while one takes over from the other."""

    fact: Fact
    bound: int = -1
    cluster: str = ""


class GapKind(StrEnum):
    """Why there is no block, as a word that can be counted."""

    FIRST_LOOK = "first_look"  # nothing to make a difference with
    PENDING = "pending"  # the source itself has looked at nothing newer yet; no reason to worry
    UNAVAILABLE = "unavailable"  # the source cannot be asked
    STALE = "stale"  # it answers with what it said before
    MISSING = "missing"  # it says nothing of one of the versions
    NO_COUNT = "no_count"  # what it says is not a count: not a number, infinite, negative
    CONTRADICTION = "contradiction"  # its counters contradict each other
    MISMATCH = "mismatch"  # two sources contradict each other


@dataclass(frozen=True)
class Gap:
    """There is no block, and why: a sentence for people, and what kind of reason that is."""

    reason: str
    kind: GapKind


class Uncounted(Exception):
    """Carries a Gap to where it is answered with."""

    def __init__(self, reason: str, kind: GapKind) -> None:
        super().__init__(reason)
        self.gap = Gap(reason, kind)


@dataclass(frozen=True)
class Told:
    """What one process had counted of one version at one moment.

    at      seconds on the clock of whoever asked the process
    life    a number that falls when another process has taken its place, and never while it lives
    """

    at: float
    life: float = 0.0
    counts: Mapping[Series, float] = field(default_factory=dict)


Sample = Mapping[Source, Told | Gap]
"""Everything that is counted of one version. A Gap is a process that is known to be there and says nothing."""

Version = tuple[str, int]
"""Model and version."""


@dataclass(frozen=True)
class Looked:
    """An answer of a source of counters: `at` is its own time when it was asked, in seconds. A version it knows
    nothing of is left out."""

    at: float
    samples: Mapping[Version, Sample]


def grown(before: Told, after: Told) -> Mapping[Series, int]:
    """How much each series grew. A series that was not there before counted nothing until then, because its process
    was. A counter that fell was reset, and so were all of a process that has another one's place: what they show now
    has been counted since.

    Raises Uncounted when a value is not a count."""
    same = after.life >= before.life
    result: dict[Series, int] = {}
    for series, value in after.counts.items():
        past = before.counts.get(series, 0.0) if same else 0.0
        if not (is_count(value) and is_count(past)):
            wrong = past if is_count(value) else value
            raise Uncounted(f"{series.fact} is {wrong:g}, which is no count", GapKind.NO_COUNT)
        result[series] = round(value - past if value >= past else value)
    return result


def was_reset(before: Told, after: Told) -> bool:
    """Whether something of what was counted before can no longer be seen."""
    return after.life < before.life or any(after.counts.get(s, 0.0) < past for s, past in before.counts.items())


def is_count(value: float) -> bool:
    return 0 <= value <= MOST and value == math.floor(value)  # what is not a number is in no range
