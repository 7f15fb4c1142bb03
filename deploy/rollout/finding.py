"""What the evidence says about one guardrail. Values only; what is weighed for each kind is weighed.py."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from deploy.evidence.counted import Counted
from deploy.rollout.plan import Guardrail, Plan, Watched
from deploy.rollout.weighed import Weighed, weighed

_FOUND: Mapping[Watched, tuple[str, str]] = {
    Watched.ERRORS: ("errors of the candidate look worse", "errors of the candidate are worse"),
    Watched.BATCHES: ("batches of the candidate look worse", "batches of the candidate are worse"),
    Watched.LATENCY: ("latency of the candidate looks worse", "latency of the candidate is worse"),
    Watched.NONFINITE: (
        "the candidate seems to predict what is no number",
        "the candidate predicts what is no number",
    ),
    Watched.PREDICTIONS: ("predictions seem to differ", "predictions differ"),
    Watched.QUALITY: ("quality of the candidate looks worse", "quality of the candidate is worse"),
    Watched.SHADOW: ("answers to mirrored requests seem to differ", "answers to mirrored requests differ"),
}
"""Suspected, and shown."""


@dataclass(frozen=True)
class Finding:
    """Evidence of one guardrail."""

    guardrail: Guardrail
    evidence: Weighed

    @classmethod
    def begin(cls, guardrail: Guardrail, plan: Plan) -> "Finding":
        return cls(guardrail, weighed(guardrail, plan))

    @property
    def log_harm(self) -> float:
        return self.evidence.log_harm

    @property
    def log_safe(self) -> float | None:
        return self.evidence.log_safe

    def update(self, past: Counted, counted: Counted, *, mirrored: bool) -> "Finding":
        """Take in new counts; `past` is all that were taken in before. Mirrored candidates serve nobody."""
        return replace(self, evidence=self.evidence.update(past, counted, mirrored=mirrored))

    def reweighed(self) -> "Finding":
        """The weights change from here on."""
        return replace(self, evidence=self.evidence.reweighed())

    def said(self, counted: Counted) -> str:
        """In counts, such as "12 of 300 slower than 25 ms against 9 of 2700"."""
        return self.evidence.said(counted)

    def sentence(self, counted: Counted, *, shown: bool) -> str:
        suspected, found = _FOUND[self.guardrail.watched]
        return f"{found if shown else suspected}: {self.said(counted)}"
