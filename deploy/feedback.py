"""What turned out to be true of answers, per request id: judged once, counted by result, paired up for rollouts.

Who answered a request is decided by which worker remembers it; where all have forgotten, the caller may say. How right
an answer was is agreement.py. Everything is bounded and in memory: what came before a restart is no evidence after it.
"""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from contracts.clock import Clock
from contracts.errors import InvalidInput
from deploy.agreement import Label, kind_of, outcome
from deploy.ports import Answered, Fleet, Recalled, Recollection, Value

JUDGED_KEPT = 65536  # request ids whose label is not counted again
OUTCOMES_KEPT = 4096  # of one version, and of requests that two answered, until a rollout takes them


class Result(StrEnum):
    """What became of one label."""

    JUDGED = "judged"
    REPEATED = "repeated"  # there was a label for this request before, and it stays
    UNKNOWN = "unknown"  # nobody remembers the request
    UNFIT = "unfit"  # it is no label of what was predicted


@dataclass(frozen=True)
class Report:
    """One label, or one per row of the request. `predicted` is what `version` of `model` said, as the caller remembers
    it; it counts only where no worker does."""

    request_id: str
    labels: tuple[Label, ...]
    model: str | None = None
    version: int | None = None
    predicted: tuple[Value, ...] = ()


@dataclass(frozen=True)
class Judgement:
    """`outcomes` by version, from 0 (wrong) to 1 (right): more than one where a mirrored candidate answered, too.
    `ages` of these answers, by version, in seconds."""

    request_id: str
    result: Result
    reason: str
    model: str | None = None
    outcomes: tuple[tuple[int, float], ...] = ()
    ages: tuple[tuple[int, float], ...] = ()


Told = Callable[[Judgement], None]  # for telemetry
Pairs = tuple[tuple[float, float], ...]
"""Outcomes of live version and candidate."""


class Judge:
    """Belongs to one event loop."""

    def __init__(
        self, recollection: Recollection, fleet: Fleet, clock: Clock, told: Told = lambda _judgement: None
    ) -> None:
        self._recollection = recollection
        self._fleet = fleet
        self._clock = clock
        self._told = told
        self._judged: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._outcomes: dict[tuple[str, int], deque[tuple[float, float]]] = defaultdict(
            lambda: deque(maxlen=OUTCOMES_KEPT)
        )
        self._twins: dict[str, deque[tuple[float, dict[int, float]]]] = defaultdict(lambda: deque(maxlen=OUTCOMES_KEPT))

    async def hear(self, reports: Sequence[Report]) -> list[Judgement]:
        """Judge every report, in order."""
        recalled: dict[str | None, Recalled] = {}
        for model in {report.model for report in reports}:
            ids = {report.request_id for report in reports if report.model == model}
            recalled[model] = await self._recollection.recall(ids, model)
        judgements = [self._judge(report, recalled[report.model]) for report in reports]
        self._forget_the_gone()
        for judgement in judgements:
            self._told(judgement)
        return judgements

    def pairs(self, model: str, live: int, candidate: int, since: float, *, mirrored: bool = False) -> Pairs:
        """Outcomes of both versions that were not given out before: of requests that both answered, and beside them the
        i-th of each in the order of their labels. Not the latter while the candidate is `mirrored`, when only the live
        version has requests of its own. Answers older than `since` (wall seconds) are left out: one version alone gave
        them."""
        twins = [both for at, both in self._twins.pop(model, ()) if at >= since and {live, candidate} <= both.keys()]
        same = tuple((both[live], both[candidate]) for both in twins)
        queues = [self._outcomes.get((model, version), deque()) for version in (live, candidate)]
        for queue in queues:
            fresh = [] if mirrored else [entry for entry in queue if entry[0] >= since]
            queue.clear()
            queue.extend(fresh)
        return same + tuple((queues[0].popleft()[1], queues[1].popleft()[1]) for _ in range(min(map(len, queues))))

    def _judge(self, report: Report, recalled: Recalled) -> Judgement:
        known = [a for a in recalled.answers if a.request_id == report.request_id]
        answers = [a for a in known if report.version in (None, a.version)] or self._as_told(report)
        models = sorted({answer.model for answer in answers})
        if not models:
            return Judgement(report.request_id, Result.UNKNOWN, self._why_unknown(report, known, recalled))
        if len(models) > 1:
            said = f"models {', '.join(models)} answered this request id: say which is meant with model"
            return Judgement(report.request_id, Result.UNFIT, said)
        if (models[0], report.request_id) in self._judged:
            said = "there was a label for this request before, and it stays"
            return Judgement(report.request_id, Result.REPEATED, said, models[0])
        # One answer per version: of a request that was sent twice, the latest.
        latest = {answer.version: answer for answer in sorted(answers, key=lambda a: a.at)}
        if report.predicted and len(latest) == 1:
            latest = {version: _completed(answer, report) for version, answer in latest.items()}
        try:
            outcomes = {version: outcome(answer, report.labels) for version, answer in latest.items()}
        except InvalidInput as error:
            return Judgement(report.request_id, Result.UNFIT, error.message, models[0])
        self._remember(models[0], report.request_id)
        if len(outcomes) > 1:
            self._twins[models[0]].append((min(answer.at for answer in latest.values()), outcomes))
        else:
            for version, value in outcomes.items():
                self._outcomes[models[0], version].append((latest[version].at, value))
        said = "; ".join(f"version {version}: {value:g}" for version, value in sorted(outcomes.items()))
        now = self._clock.wall()
        ages = tuple((version, max(0.0, now - latest[version].at)) for version in sorted(outcomes))
        return Judgement(report.request_id, Result.JUDGED, said, models[0], tuple(sorted(outcomes.items())), ages)

    def _as_told(self, report: Report) -> list[Answered]:
        """The answer as the caller remembers it, of a version that is deployed."""
        colors = {(w.model, w.version): w.color for w in self._fleet.workers()}
        model, version = report.model, report.version
        if model is None or version is None or not report.predicted or (model, version) not in colors:
            return []
        at, rows = self._clock.wall(), len(report.predicted)
        told = Answered(report.request_id, model, version, colors[model, version], "", at, rows, None, ())
        return [_completed(told, report)]

    def _why_unknown(self, report: Report, known: Sequence[Answered], recalled: Recalled) -> str:
        if known:
            others = ", ".join(str(a.version) for a in known)
            return f"version {report.version} did not answer this request; it was version {others}"
        if report.predicted:
            return (
                "no worker remembers this request: send model and version with predicted, of a version that is deployed"
            )
        silent = f"; {len(recalled.silent)} workers could not be asked" if recalled.silent else ""
        return (
            f"no worker remembers this request{silent}: each keeps its latest answers only, so send labels earlier, or "
            "model, version and predicted along with them"
        )

    def _remember(self, model: str, request_id: str) -> None:
        self._judged[model, request_id] = None
        if len(self._judged) > JUDGED_KEPT:
            self._judged.popitem(last=False)

    def _forget_the_gone(self) -> None:
        """Versions that are not deployed any more are in no rollout."""
        here = {(w.model, w.version) for w in self._fleet.workers()}
        for gone in self._outcomes.keys() - here:
            del self._outcomes[gone]
        for left in self._twins.keys() - {model for model, _ in here}:
            del self._twins[left]


def _completed(answer: Answered, report: Report) -> Answered:
    """With what the caller remembers of it, where the worker does not."""
    if answer.kind is not None:
        return answer
    return replace(answer, kind=kind_of(report.predicted, report.labels), predicted=report.predicted)
