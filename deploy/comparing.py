"""Do a mirrored candidate and the live version answer alike? Joins what their workers remember by request id.

Both sides are asked for the same share of ids, so that a share of the requests is compared, whatever was answered; the
share shrinks under load, so that a look stays small. What counts as alike is agreement.py.
"""

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, field

from contracts.clock import Clock
from contracts.errors import Unavailable
from deploy.agreement import alike
from deploy.evidence.counted import NOT_COMPARED, Compared
from deploy.ports import Answered, Fleet, Recollection, WorkerState, WorkerStatus

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
ANSWERS_WANTED = 400  # of both sides in one look
WAITING = 4096  # answers that wait for their twin; the oldest never will meet it
WATCHED_SECONDS = 60.0  # a rollout that nobody asks about for so long is not compared any more

Pair = tuple[str, int, int]
"""Model, live version, candidate."""


@dataclass
class _Mirror:
    """One rollout that is compared. `after` is where each worker's memory is read on; `waiting` holds answers without a
    twin so far, and None for an id that one version answered more than once: nobody knows which of them has which twin.
    """

    asked: float  # monotonic seconds
    share: int = 1
    after: dict[str, float] = field(default_factory=dict)
    waiting: OrderedDict[str, Answered | None] = field(default_factory=OrderedDict)
    compared: Compared = NOT_COMPARED


class Comparing:
    """Belongs to one event loop. Compares what somebody takes: a rollout is watched from the first `take` on."""

    def __init__(self, recollection: Recollection, fleet: Fleet, clock: Clock) -> None:
        self._recollection = recollection
        self._fleet = fleet
        self._clock = clock
        self._mirrors: dict[Pair, _Mirror] = {}

    def take(self, pair: Pair) -> Compared:
        """What was compared since it was taken before."""
        mirror = self._mirrors.setdefault(pair, _Mirror(self._clock.monotonic()))
        mirror.asked = self._clock.monotonic()
        new, mirror.compared = mirror.compared, NOT_COMPARED
        return new

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Compare what was answered since the last look. The first look at a worker only notes where it stands."""
        since = self._clock.monotonic() - WATCHED_SECONDS
        self._mirrors = {pair: mirror for pair, mirror in self._mirrors.items() if mirror.asked >= since}
        for pair, mirror in list(self._mirrors.items()):
            model, *versions = pair
            ready = [w for w in self._fleet.workers() if w.model == model and w.state is WorkerState.READY]
            workers = [w for w in ready if w.version in versions]
            told = await asyncio.gather(*(self._since(mirror, worker) for worker in workers))
            answers = [answer for each in told for answer in each]
            for answer in answers:
                _meet(mirror, answer)
            if len(answers) > ANSWERS_WANTED:
                mirror.share *= 2
            elif len(answers) < ANSWERS_WANTED // 4:
                mirror.share = max(1, mirror.share // 2)

    async def _since(self, mirror: _Mirror, worker: WorkerStatus) -> tuple[Answered, ...]:
        try:
            after = mirror.after.get(worker.id)
            mirror.after[worker.id], answers = await self._recollection.since(worker, after, mirror.share)
        except Unavailable as error:
            log.info("mirrored answers are not compared just now: %s", error.message)
            return ()
        return answers


def _meet(mirror: _Mirror, answer: Answered) -> None:
    """Compare an answer with its twin of the other version, or let it wait for that."""
    if answer.request_id not in mirror.waiting:
        mirror.waiting[answer.request_id] = answer
        if len(mirror.waiting) > WAITING:
            mirror.waiting.popitem(last=False)
        return
    twin = mirror.waiting[answer.request_id]
    if twin is None or twin.version == answer.version:
        mirror.waiting[answer.request_id] = None
        return
    del mirror.waiting[answer.request_id]
    if (same := alike(twin, answer)) is not None:
        mirror.compared += Compared(int(same), int(not same))
