"""The panels of the rollout cockpit: what each shows, and the query behind it.

Names come from contracts.metrics and from the recording rules beside this file. A version is shown with the role it
had at that moment, so that the candidate's line goes on as the live version's after a promotion.
"""

import math

from contracts import metrics
from contracts.metrics import Metric
from deploy.monitoring.panels import (
    Json,
    Query,
    bar_gauge,
    dashed,
    stat,
    state_timeline,
    table,
    text,
    time_series,
    with_lines,
)
from deploy.rollout.trial import SUSPICIOUS

_MODEL = 'model="$model"'
_PREDICT = f'kind="predict",{_MODEL}'
_VERSION = ", ".join(metrics.VERSION_LABELS)
_BY_VERSION = f"sum by ({_VERSION})"
_RATE = "$__rate_interval"
_WHO = "{{role}} v{{version}} ({{color}})"
_STATES = {
    "absent": "text", "warming": "light-blue", "shadow": "purple", "canary": "blue", "hold": "orange",
    "blind": "dark-orange", "paused": "yellow", "inconclusive": "dark-yellow", "baking": "dark-blue",
    "promoted": "green", "live": "dark-green", "rolled_back": "red", "undone": "dark-red", "failed": "super-light-red",
}  # fmt: skip


def state() -> Json:
    seen = f"max by (state) (max_over_time({own(metrics.ROLLOUT_STATE)}[$__range])) > 0"
    return state_timeline(
        "State",
        "Where the model's rollout is. Only states that occurred in the period are shown.",
        Query(f"max by (state) ({own(metrics.ROLLOUT_STATE)}) and on (state) ({seen})", "{{state}}"),
        _STATES,
    )


def weights() -> Json:
    share = _with_role(f"max by ({_VERSION}, kind) ({own(metrics.WEIGHT_RATIO)})", "candidate")
    return time_series(
        "Candidate's weight",
        "Desired as recorded, applied as Envoy acknowledged it, observed in the requests that were answered.",
        "percentunit",
        [Query(share, "{{kind}} v{{version}}")],
        min=0,
        max=1,
    )


def progress() -> Json:
    return stat(
        "Step of the plan",
        "The step the rollout is at, and how many there are.",
        "none",
        [
            Query(f"max by (model) ({own(metrics.ROLLOUT_STEP)})", "step"),
            Query(f"max by (model) ({own(metrics.ROLLOUT_STEPS)})", "of"),
        ],
    )


def eta() -> Json:
    return stat(
        "Expected time to a decision",
        "At the present traffic: to promote a candidate that is no worse, and to find out one that fails twice as "
        "often, a relative risk of 2.",
        "s",
        [Query(f"max by (to) ({own(metrics.ETA)})", "to {{to}}")],
    )


def revision() -> Json:
    return stat(
        "Revision",
        "A command that gives the candidate more users names the revision its operator looked at.",
        "none",
        [Query(f"max by (kind) ({own(metrics.REVISION)})", "{{kind}}")],
    )


def harm() -> Json:
    return _evidence(
        "Evidence of harm (log10)",
        "How sure one may be that the candidate is worse, as a power of ten: 2 stands for a hundred to one. Above the "
        "orange line the rollout stands still, at the dashed line of the same name it rolls back. Looking often does "
        "not make it wrong more often.",
        "harm",
    )


def safety() -> Json:
    return _evidence(
        "Evidence of safety (log10)",
        "How sure one may be that the candidate is no worse than the plan tolerates. Promotion waits until everything "
        "that is required has reached its dashed line.",
        "safe",
    )


def _evidence(title: str, description: str, hypothesis: str) -> Json:
    chosen = f'hypothesis="{hypothesis}"'
    panel = time_series(
        title,
        description,
        "none",
        [
            Query(f"max by (watched) ({own(metrics.EVIDENCE, chosen)})", "{{watched}}"),
            Query(f"max by (watched) ({own(metrics.EVIDENCE_THRESHOLD, chosen)})", "{{watched}}: acts at"),
        ],
    )
    panel = dashed(panel, ".*: acts at")
    return with_lines(panel, {"orange": round(SUSPICIOUS / math.log(10), 4)}) if hypothesis == "harm" else panel


def risk() -> Json:
    risk = f"max by (watched, bound) ({own(metrics.RELATIVE_RISK)})"
    panel = time_series(
        "Relative risk",
        "How many times as often the candidate is bad as the live version. The interval holds at every moment at once; "
        "1 is no difference.",
        "none",
        [Query(risk, "{{watched}}: {{bound}}")],
        min=0,
    )
    return with_lines(dashed(panel, ".*: (lower|upper)"), {"green": 1.0})


def errors() -> Json:
    return time_series(
        "Errors",
        "Share of requests that callers saw fail by the version's fault, after all retries.",
        "percentunit",
        [Query(_with_role(f"model_version:teal_errors:ratio_rate5m{{{_MODEL}}}"), _WHO)],
        min=0,
    )


def quantiles() -> Json:
    buckets = f"sum by (le, {_VERSION}) (rate(envoy_cluster_upstream_rq_time_bucket{{{_PREDICT}}}[{_RATE}]))"
    quantiles = (("0.5", "p50"), ("0.9", "p90"), ("0.99", "p99"))
    return time_series(
        "Latency",
        "Of the version's workers, as Envoy measures it.",
        "ms",
        [Query(_with_role(f"histogram_quantile({q}, {buckets})"), f"{name} {_WHO}") for q, name in quantiles],
        min=0,
    )


def slower() -> Json:
    # Prometheus 3 writes the bound 100 as 100.0.
    fast = f'envoy_cluster_upstream_rq_time_bucket{{{_PREDICT},le=~"$slower([.]0)?"}}'
    every = f"envoy_cluster_upstream_rq_time_count{{{_PREDICT}}}"
    share = f"1 - {_BY_VERSION} (rate({fast}[{_RATE}])) / ({_BY_VERSION} (rate({every}[{_RATE}])) > 0)"
    return time_series(
        "Slower than $slower ms",
        "Share of requests. This, at the live version's own quantiles, is what latency is judged by.",
        "percentunit",
        [Query(_with_role(f"({share})"), _WHO)],
        min=0,
    )


def requests() -> Json:
    outcomes = f"sum by ({_VERSION}, outcome) (rate({own(metrics.REQUESTS)}[{_RATE}])) > 0"
    return time_series(
        "Requests",
        "What the workers answered, by version and outcome.",
        "reqps",
        [Query(_with_role(f"({outcomes})"), f"{{{{outcome}}}} {_WHO}")],
        min=0,
    )


def hidden() -> Json:
    saved = f"envoy_cluster_upstream_rq_retry_success{{{_PREDICT}}}"
    return time_series(
        "Failures that a second attempt hid",
        "No caller saw them; a rollout counts them against the version all the same.",
        "reqps",
        [Query(_with_role(f"{_BY_VERSION} (rate({saved}[{_RATE}]))"), _WHO)],
        min=0,
    )


def batch_rows() -> Json:
    rows, runs = (f"{_BY_VERSION} (rate({own(metrics.BATCH_SIZE, part=part)}[{_RATE}]))" for part in ("sum", "count"))
    return time_series(
        "Rows in one engine run",
        "More is cheaper, up to where it is late.",
        "none",
        [Query(_with_role(f"({rows} / ({runs} > 0))"), _WHO)],
        min=0,
    )


def queue() -> Json:
    return _p99("Wait for an engine run (p99)", "Of requests that queued.", metrics.QUEUE_WAIT)


def compute() -> Json:
    return _p99("Engine run (p99)", "The model's own time.", metrics.BATCH_SECONDS)


def _p99(title: str, description: str, metric: Metric) -> Json:
    buckets = f"sum by (le, {_VERSION}) (rate({own(metric, part='bucket')}[{_RATE}]))"
    return time_series(
        title, description, "s", [Query(_with_role(f"histogram_quantile(0.99, {buckets})"), _WHO)], min=0
    )


def predictions() -> Json:
    ratio = f"model_role_bin:teal_predictions:ratio_rate5m{{{_MODEL}}}"
    return bar_gauge(
        "Predictions by bin",
        "Classes by their index, scores by size; the last bin is what is no number. A new model may predict "
        "differently and be right.",
        "percentunit",
        [Query(f"sort_desc({ratio} > 0)", "bin {{bin}}, {{role}}", instant=True)],
        min=0,
        max=1,
    )


def divergence() -> Json:
    return time_series(
        "How far predictions are apart",
        "Jensen-Shannon divergence of the two versions' predictions, in bits: 0 is alike, 1 is never the same.",
        "none",
        [Query(f"model:teal_predictions:jsd_bits_rate5m{{{_MODEL}}}", "bits")],
        min=0,
    )


def labels() -> Json:
    return time_series(
        "Labels",
        "What became of the labels that were sent, of all models.",
        "short",
        [Query(f"sum by (result) (increase({metrics.FEEDBACK.name}[{_RATE}]))", "{{result}}")],
        bars=True,
        min=0,
    )


def lag() -> Json:
    """Both arms: quality can only be compared where labels come equally late."""
    late, count = (
        f"{_BY_VERSION} (rate({own(metrics.FEEDBACK_LAG, part=part)}[{_RATE}]))" for part in ("sum", "count")
    )
    return time_series(
        "From answer to label",
        "Mean. Where the labels of one version come later, the two cannot be compared by them yet.",
        "s",
        [Query(_with_role(f"({late} / ({count} > 0))"), _WHO)],
        min=0,
    )


def gaps() -> Json:
    return time_series(
        "Evidence gaps",
        "Looks at the counters that gave no evidence, by why. A rollout that sees nothing moves nowhere.",
        "none",
        [Query(f"sum by (reason) (increase({own(metrics.EVIDENCE_GAPS)}[{_RATE}]))", "{{reason}}")],
        bars=True,
        min=0,
    )


def decisions() -> Json:
    made = f"sum by (decision, reason) (increase({own(metrics.ROLLOUT_DECISIONS)}[$__range])) > 0"
    return table(
        "Decisions in the period",
        "What the control plane decided by itself. The link History has the sentences and the counts.",
        "none",
        Query(made, instant=True),
        ["decision", "reason"],
    )


def commands() -> Json:
    return text(
        "What one can do",
        "```\nteal status $model --watch\nteal pause | resume | abort $model\nteal promote $model [--override]\n"
        "teal history $model\n```\nThe links at the top open the same commands in the operating API.",
    )


def own(metric: Metric, *more: str, part: str = "") -> str:
    """The metric's series of the chosen model."""
    name = f"{metric.name}_{part}" if part else metric.name
    return f"{name}{{{', '.join((_MODEL, *more))}}}"


def _with_role(versions: str, role: str = "live|candidate|previous") -> str:
    """Series by version with the role that each version had then; those of other roles are left out."""
    slots = own(metrics.SLOT_INFO, f'role=~"{role}"')
    return f"{versions} * on ({_VERSION}) group_left (role) max by ({_VERSION}, role) ({slots})"
