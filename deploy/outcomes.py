"""The port Outcomes: what labels and mirrored answers say of a rollout. Wiring only."""

from contracts.clock import Clock
from deploy.comparing import Comparing
from deploy.evidence.counted import NOT_COMPARED, Compared
from deploy.feedback import Judge
from deploy.rollout.deployment import Deployment


class KnownOutcomes:
    def __init__(self, judge: Judge, comparing: Comparing, clock: Clock) -> None:
        self._judge = judge
        self._comparing = comparing
        self._clock = clock

    def take(self, deployment: Deployment) -> tuple[tuple[tuple[float, float], ...], Compared]:
        """Nothing of a deployment without a trial."""
        live, candidate, trial = deployment.live, deployment.candidate, deployment.trial
        if live is None or candidate is None or trial is None:
            return (), NOT_COMPARED
        began = self._clock.wall() - trial.age
        pairs = self._judge.pairs(deployment.model, live.version, candidate.version, began)
        if not deployment.mirrored():
            return pairs, NOT_COMPARED
        return pairs, self._comparing.take((deployment.model, live.version, candidate.version))
