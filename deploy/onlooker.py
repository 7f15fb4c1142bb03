"""Who is told what the tick saw, decided and brought into force. The tick does not know what is made of it."""

from typing import Protocol

from deploy.rollout.deployment import Deployment
from deploy.rollout.moves import Decision
from deploy.witness import Testimony


class Onlooker(Protocol):
    """Is told facts, in the event loop and in the order in which they happened; `at` is wall seconds."""

    def looked(self, deployment: Deployment, told: Testimony, at: float) -> None:
        """A rollout by evidence was told what is new, or why nothing is."""

    def decided(self, before: Deployment, decision: Decision, at: float) -> None:
        """A decision of the control plane's own was recorded."""

    def applied(self, before: Deployment | None, after: Deployment, at: float) -> None:
        """Envoy has acknowledged `after`; `before` is what it had acknowledged until now, None when this process does
        not know. Told after every tick, also when nothing changed."""


class Nobody:
    """An Onlooker for those who watch nothing."""

    def looked(self, deployment: Deployment, told: Testimony, at: float) -> None:
        pass

    def decided(self, before: Deployment, decision: Decision, at: float) -> None:
        pass

    def applied(self, before: Deployment | None, after: Deployment, at: float) -> None:
        pass


NOBODY = Nobody()
