"""How a candidate becomes live on evidence: the steps, what is watched, and how sure one wants to be. Values only.

A plan is fixed when its rollout starts. Reading one from a file is plan_file.py; following one is steering.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from contracts.errors import InvalidInput
from contracts.metrics import LATENCY_SECONDS
from contracts.traffic import TOTAL, percent

MINUTE = 60.0
HOUR = 3600.0


class Strategy(StrEnum):
    """How a warm candidate becomes live: by an operator's hand, at once, or on evidence."""

    MANUAL = "manual"
    DIRECT = "direct"
    CANARY = "canary"  # in steps
    BLUEGREEN = "bluegreen"  # in one switch
    SHADOW = "shadow"  # never serves: answers of mirrored requests are compared


class Watched(StrEnum):
    """What a guardrail counts."""

    ERRORS = "errors"  # requests that failed by the version's fault: server error, time-out, overload
    BATCHES = "batches"  # engine runs that failed: the unit where a whole batch fails together
    LATENCY = "latency"  # requests slower than the live version's own quantiles
    NONFINITE = "nonfinite"  # predictions that are no number
    PREDICTIONS = "predictions"  # how often which answer is given, by bin
    QUALITY = "quality"  # outcomes that somebody labelled, from 0 (wrong) to 1 (right)
    SHADOW = "shadow"  # mirrored requests that the two versions answered differently


DIFFERENCES = frozenset({Watched.PREDICTIONS, Watched.SHADOW})
"""What may differ without being worse: a new model is there to answer differently. Nobody is rolled back for it unless
the guardrail says so, and an operator may promote against it."""


class OnHarm(StrEnum):
    ROLLBACK = "rollback"
    FREEZE = "freeze"  # stand still until an operator decides


class OnBlind(StrEnum):
    HOLD = "hold"
    ROLLBACK = "rollback"


@dataclass(frozen=True)
class Step:
    """`weight` in units of contracts.traffic for at least `dwell` seconds, counted from Envoy's acknowledgement, and
    until the candidate has finished `units` requests in it."""

    weight: int
    dwell: float
    units: int = 20

    def __post_init__(self) -> None:
        if not 0 < self.weight <= TOTAL:
            raise InvalidInput(f"a step's weight is more than 0 and at most 100 %, got {percent(self.weight)}")
        if self.dwell < 0 or self.units < 0:
            raise InvalidInput("a step's dwell and units are not negative")


@dataclass(frozen=True)
class Guardrail:
    """One thing that must not get worse. `share` of the plan's alpha is what it may spend on false alarms.

    required    promotion needs evidence that it is no worse by the plan's margin
    objective   share of bad units that is fine in any case; None: only the comparison counts. An objective that is
                met stands in for the comparison, because versions that never fail cannot be compared. For mirrored
                answers the share that may differ; None is DISAGREEMENT
    on_harm     None: what the plan says, and to stand still where versions merely differ
    floor       seconds; for latency: what is faster than this is fast enough, and by how much is nobody's business
    min_jsd_bits    for predictions: the Jensen-Shannon divergence below which no difference is worth attention
    loss        for quality: how much less of it is tolerated, of 1
    dispersion  how many units fail together, as measured on two halves of one version; 1 when they are independent
    tolerance   the relative risk that is no harm yet; None: TOLERATED
    """

    watched: Watched
    share: float
    required: bool = True
    objective: float | None = None
    floor: float = 0.005
    on_harm: OnHarm | None = None
    min_jsd_bits: float = 0.005
    loss: float = 0.02
    dispersion: float = 1.0
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.floor < LATENCY_SECONDS[-1]:
            raise InvalidInput(
                f"guardrail {self.watched}: its floor is not negative and below {LATENCY_SECONDS[-1]:g} s"
            )
        if not 0 < self.share <= 1:
            raise InvalidInput(f"guardrail {self.watched}: its share of alpha is more than 0 and at most 1")
        if self.objective is not None and not 0 < self.objective < 0.1:
            raise InvalidInput(f"guardrail {self.watched}: its objective is more than 0 and less than 0.1")
        if not 0 <= self.min_jsd_bits < 1:
            raise InvalidInput(f"guardrail {self.watched}: min_jsd_bits is 0 or more and less than 1 bit")
        if not 0 <= self.loss < 1:
            raise InvalidInput(f"guardrail {self.watched}: its loss is 0 or more and less than 1")
        if not 1 <= self.tolerated < 10:
            raise InvalidInput(f"guardrail {self.watched}: its tolerance is a relative risk from 1 to less than 10")
        if not 1 <= self.dispersion <= 10_000:
            raise InvalidInput(f"guardrail {self.watched}: its dispersion is at least 1 and at most 10000")

    @property
    def tolerated(self) -> float:
        """The relative risk that is no harm yet."""
        return TOLERATED.get(self.watched, 1.0) if self.tolerance is None else self.tolerance


TOLERATED: Mapping[Watched, float] = {Watched.LATENCY: 1.25}
"""Relative risks that are no harm yet when nobody says: whoever gets few requests has cold caches, and being a tenth
slower is no reason to go back. Nothing else is expected to be worse at all."""
DISAGREEMENT = 0.05
"""Share of mirrored requests that may be answered differently when nobody says."""

DEFAULT_STEPS = (
    Step(100, 2 * MINUTE),
    Step(500, 2 * MINUTE),
    Step(1000, 2 * MINUTE),
    Step(2500, 3 * MINUTE),
    Step(5000, 5 * MINUTE),
)
DEFAULT_GUARDRAILS = (
    Guardrail(Watched.ERRORS, 0.5, objective=0.001),
    Guardrail(Watched.BATCHES, 0.15, required=False),
    Guardrail(Watched.LATENCY, 0.3),
    Guardrail(Watched.NONFINITE, 0.05, required=False),
    Guardrail(Watched.PREDICTIONS, 1.0, required=False),  # it holds and rolls nobody back, so it spends its own alpha
)


@dataclass(frozen=True)
class Plan:
    """Times in seconds, weights in units of contracts.traffic.

    alpha           chance of rolling back a candidate that is no worse, over the whole rollout
    beta            chance, per required guardrail, of promoting one that is worse by more than the margin
    margin          the relative risk that is tolerated
    deadline        how long the rollout may take; after that an operator decides
    blind_after     how old the newest evidence may be; older, and the rollout stands still
    blind_deadline  how long it stands still before `on_blind` is done
    holdback        the old version's share after the switch, so that the comparison goes on; may be 0
    bake            how long that comparison lasts before the old version gives up its share
    mirror          share of the traffic that is copied to the candidate before it serves anybody; 0: none
    mirror_for      for how long at least
    absolute_slo_guard    more failures than the objective are harm also when the live version has them, too
    pause_most      how long an operator's pause may last
    undo_window     how long the old version stays warm after promotion
    """

    strategy: Strategy
    steps: tuple[Step, ...] = DEFAULT_STEPS
    guardrails: tuple[Guardrail, ...] = DEFAULT_GUARDRAILS
    alpha: float = 0.01
    beta: float = 0.05
    margin: float = 2.0
    deadline: float = 2 * HOUR
    on_harm: OnHarm = OnHarm.ROLLBACK
    on_blind: OnBlind = OnBlind.HOLD
    blind_after: float = 45.0
    blind_deadline: float = 5 * MINUTE
    holdback: int = 500
    bake: float = 5 * MINUTE
    pause_most: float = 24 * HOUR
    undo_window: float = 24 * HOUR
    mirror: int = 0
    mirror_for: float = 2 * MINUTE
    absolute_slo_guard: bool = False

    def __post_init__(self) -> None:
        weights = [step.weight for step in self.steps]
        if self.strategy is Strategy.SHADOW and (weights or not self.mirror):
            raise InvalidInput("a shadow plan mirrors and has no steps: its candidate never serves")
        if weights != sorted(set(weights)) or (not weights and self.strategy is not Strategy.SHADOW):
            raise InvalidInput("the steps' weights must grow from step to step, and there must be one at least")
        if not 0 <= self.mirror <= TOTAL or self.mirror_for < 0:
            raise InvalidInput("mirror is a share from 0 to 100 %, and mirror_for is not negative")
        kinds = [guardrail.watched for guardrail in self.guardrails]
        if not kinds or len(set(kinds)) != len(kinds):
            raise InvalidInput("a plan needs guardrails, each thing watched once")
        if sum(g.share for g in self.guardrails if not self.merely_differs(g)) > 1 + 1e-9:
            raise InvalidInput("the guardrails' shares of alpha add up to more than 1")
        if not (0 < self.alpha < 0.5 and 0 < self.beta < 0.5):
            raise InvalidInput("alpha and beta are chances of being wrong: more than 0 and less than 0.5")
        if self.margin <= 1:
            raise InvalidInput("margin is the relative risk that is tolerated: more than 1, such as 2")
        if not 0 <= self.holdback <= TOTAL - (weights[-1] if weights else 0):
            raise InvalidInput(
                f"a holdback of {percent(self.holdback)} contradicts a last step of {percent(weights[-1])}"
            )
        if min(self.blind_after, self.blind_deadline, self.deadline, self.pause_most) <= 0:
            raise InvalidInput("deadline, blind_after, blind_deadline and pause_most are longer than nothing")
        if min(self.bake, self.undo_window) < 0:
            raise InvalidInput("bake and undo_window are not negative")
        if self.shortest > self.deadline:
            raise InvalidInput(
                f"the steps and the bake take {self.shortest:g} s at least, longer than the deadline of "
                f"{self.deadline:g} s: raise the deadline or shorten the dwells"
            )

    @property
    def shortest(self) -> float:
        """Seconds from the first step to promotion when nothing holds it up."""
        if self.strategy is Strategy.SHADOW:
            return self.mirror_for
        return (self.mirror_for if self.mirror else 0.0) + sum(step.dwell for step in self.steps) + self.bake

    def alpha_of(self, guardrail: Guardrail) -> float:
        return self.alpha * guardrail.share

    def on_harm_of(self, guardrail: Guardrail) -> OnHarm:
        if guardrail.on_harm is not None:
            return guardrail.on_harm
        return OnHarm.FREEZE if guardrail.watched in DIFFERENCES else self.on_harm

    def merely_differs(self, guardrail: Guardrail) -> bool:
        """What it finds is no harm: it holds the rollout up, at a price of its own, and an operator may overrule it."""
        return guardrail.watched in DIFFERENCES and self.on_harm_of(guardrail) is OnHarm.FREEZE


CANARY = Plan(Strategy.CANARY)
# The switch is its only step: all traffic but the holdback, after a look at mirrored requests.
BLUEGREEN = Plan(Strategy.BLUEGREEN, steps=(Step(9500, 2 * MINUTE),), mirror=1000)
SHADOW = Plan(
    Strategy.SHADOW,
    steps=(),
    mirror=1000,
    mirror_for=5 * MINUTE,
    guardrails=(
        Guardrail(Watched.SHADOW, 1.0),
        Guardrail(Watched.ERRORS, 0.5, required=False),
        Guardrail(Watched.BATCHES, 0.15, required=False),
        Guardrail(Watched.LATENCY, 0.3, required=False),
        Guardrail(Watched.NONFINITE, 0.05, required=False),
        Guardrail(Watched.PREDICTIONS, 1.0, required=False),
    ),
)
DEFAULTS = {plan.strategy: plan for plan in (CANARY, BLUEGREEN, SHADOW)}
