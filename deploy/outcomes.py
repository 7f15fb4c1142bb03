"""What labels and mirrored answers say of rollouts: the port Outcomes, put together of feedback.py and comparing.py."""

from contracts.clock import Clock
from deploy.comparing import Comparing
from deploy.evidence.counted import NOT_COMPARED, Compared
from deploy.feedback import Judge, Pairs, Told
from deploy.ports import Fleet, Recollection
from deploy.rollout.deployment import Deployment


class KnownOutcomes:
    """Belongs to one event loop. `comparing.run` has to run beside it."""

    def __init__(
        self, recollection: Recollection, fleet: Fleet, clock: Clock, told: Told = lambda _judgement: None
    ) -> None:
        """`told` hears of every label that was judged, for telemetry."""
        self.judge = Judge(recollection, fleet, clock, told)
        self.comparing = Comparing(recollection, fleet, clock)
        self._clock = clock

    def take(self, deployment: Deployment) -> tuple[Pairs, Compared]:
        """Nothing of a deployment without a trial."""
        live, candidate, trial = deployment.live, deployment.candidate, deployment.trial
        if live is None or candidate is None or trial is None:
            return (), NOT_COMPARED
        began = self._clock.wall() - trial.age
        mirrored = deployment.mirrored() > 0
        pairs = self.judge.pairs(deployment.model, live.version, candidate.version, began, mirrored=mirrored)
        if not mirrored:
            return pairs, NOT_COMPARED
        return pairs, self.comparing.take((deployment.model, live.version, candidate.version))
