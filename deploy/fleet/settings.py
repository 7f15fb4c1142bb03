"""The fleet's settings: name, unit, default, sentence."""

from dataclasses import dataclass, field

from deploy.fleet.backoff import RestartRules
from deploy.fleet.health import HealthRules


@dataclass(frozen=True)
class FleetSettings:
    """Times in seconds.

    drain_seconds   longest time a worker gets to finish what it has before it ends itself
    grace_margin    how much longer than that it is waited for before SIGKILL
    orphan_seconds  from SIGTERM to SIGKILL for a process that nobody can account for
    oom_score       workers go before the control plane and Envoy when memory runs out: -1000 to 1000, 0 is neutral
    """

    drain_seconds: float = 30.0
    grace_margin: float = 5.0
    orphan_seconds: float = 5.0
    oom_score: int = 300
    health: HealthRules = field(default_factory=HealthRules)
    restarts: RestartRules = field(default_factory=RestartRules)
