"""A forecast in its JSON shape (deploy.answers). Apart from views.py, because the command line makes one without a
gateway and need not load a database for it."""

import math

from deploy import answers
from deploy.rollout.forecast import Forecast, Live
from deploy.rollout.plan import Plan
from deploy.rollout.plan_file import plan_to_json


def forecast_view(
    model: str, plan: Plan, live: Live, expected: Forecast, measured: answers.Measured | None = None
) -> answers.Forecast:
    return {
        "model": model,
        "plan": plan_to_json(plan),
        "requests_per_second": live.requests,
        "failing": live.failing,
        "measured": measured,
        "promote_seconds": ever(expected.promote),
        "find": [{"risk": r, "seconds": ever(s), "requests": ever(n)} for r, s, n in expected.find],
        "problem": expected.problem,
    }


def ever(value: float) -> float | None:
    """JSON has no infinity: what never happens is null."""
    return value if math.isfinite(value) else None
