"""The names, labels and bucket bounds of every metric, so that a query cannot ask for what nobody emits.

Prefix `teal_`, base units, closed label sets. Failures are inside the latency histogram. What is asked of Envoy
carries the same three labels through its stats tags.
"""

from dataclasses import dataclass
from enum import StrEnum

LABEL_MODEL = "model"
LABEL_VERSION = "version"
LABEL_COLOR = "color"
VERSION_LABELS = (LABEL_MODEL, LABEL_VERSION, LABEL_COLOR)

# Bounds in seconds: fine where small models live, and holding every limit a plan is likely to name.
LATENCY_SECONDS = (
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75,
    1.0, 1.5, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
QUEUE_SECONDS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LAG_SECONDS = (1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0, 604800.0)
ROLLBACK_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ROLLOUT_SECONDS = (60.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0, 86400.0)


class Outcome(StrEnum):
    """How a request ended, from the caller's side."""

    OK = "ok"
    CLIENT_ERROR = "client_error"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    OVERLOAD = "overload"
    CANCELLED = "cancelled"


class BatchOutcome(StrEnum):
    OK = "ok"
    FAILED = "failed"


@dataclass(frozen=True)
class Metric:
    """One exported series family. `kind` is counter, gauge or histogram; counters are named with `_total`."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()


# The worker
REQUESTS = Metric(
    "teal_requests_total", "counter", "Prediction requests answered, by how they ended.", (*VERSION_LABELS, "outcome")
)
REQUEST_SECONDS = Metric(
    "teal_request_duration_seconds",
    "histogram",
    "Time in the worker from the first byte read to the answer handed over, every outcome included.",
    VERSION_LABELS,
    LATENCY_SECONDS,
)
REQUEST_ROWS = Metric("teal_request_rows_total", "counter", "Rows received in accepted requests.", VERSION_LABELS)
BATCHES = Metric(
    "teal_batches_total", "counter", "Engine runs, by outcome: the unit of evidence.", (*VERSION_LABELS, "outcome")
)
BATCH_SIZE = Metric(
    "teal_batch_rows", "histogram", "Rows of callers in one engine run, padding left out.", VERSION_LABELS, BATCH_ROWS
)
BATCH_SECONDS = Metric(
    "teal_batch_compute_seconds", "histogram", "Time of one engine run.", VERSION_LABELS, LATENCY_SECONDS
)
QUEUE_WAIT = Metric(
    "teal_queue_wait_seconds", "histogram", "Time a request waited for its engine run.", VERSION_LABELS, QUEUE_SECONDS
)
QUEUE_ROWS = Metric("teal_queue_rows", "gauge", "Rows waiting for an engine run now.", VERSION_LABELS)
PADDING_ROWS = Metric("teal_padding_rows_total", "counter", "Rows computed only to fill a bucket.", VERSION_LABELS)
REJECTED = Metric(
    "teal_rejected_total", "counter", "Requests refused before any compute, by reason.", (*VERSION_LABELS, "reason")
)
REJECTED_REASONS = ("queue_full", "expired", "invalid", "draining", "too_large", "quarantined")
PREDICTION_BIN_COUNT = 57  # of every version alike, so that two of them need no agreement; the last is no number
PREDICTION_BINS = Metric(
    "teal_prediction_bin_total",
    "counter",
    "Predictions by bin, from the engine runs that were looked at; the bins are those of serving/summary.py, numbered "
    "from 0.",
    (*VERSION_LABELS, "bin"),
)
WORKER_READY = Metric("teal_worker_ready", "gauge", "1 when the worker takes requests, else 0.", VERSION_LABELS)
WORKER_INFO = Metric(
    "teal_worker_info", "gauge", "Always 1; names the package and plan.", (*VERSION_LABELS, "digest", "plan")
)
WORKER_SUSPECT = Metric(
    "teal_worker_suspect",
    "gauge",
    "1 once the model answered with another number of rows or dtype than its signature says, else 0.",
    VERSION_LABELS,
)
LOAD_SECONDS = Metric(
    "teal_model_load_seconds", "gauge", "Time from process start to ready, warm-up included.", VERSION_LABELS
)

WORKER_METRICS = (
    REQUESTS, REQUEST_SECONDS, REQUEST_ROWS, BATCHES, BATCH_SIZE, BATCH_SECONDS, QUEUE_WAIT, QUEUE_ROWS,
    PADDING_ROWS, REJECTED, PREDICTION_BINS, WORKER_READY, WORKER_INFO, WORKER_SUSPECT,
    LOAD_SECONDS,
)  # fmt: skip

# The control plane
SLOT_INFO = Metric(
    "teal_slot_info",
    "gauge",
    "Always 1; which version is where and in which role.",
    (*VERSION_LABELS, "role", "digest"),
)
WEIGHT_RATIO = Metric(
    "teal_rollout_weight_ratio",
    "gauge",
    "Share of a version's traffic: desired as recorded, applied as Envoy acknowledged it, observed in the requests of "
    "the last half minute of a rollout by evidence.",
    (*VERSION_LABELS, "kind"),
)
REVISION = Metric(
    "teal_deployment_revision",
    "gauge",
    "Revision of what is deployed, as recorded and as applied; applied is 0 until this control plane has heard of it.",
    (LABEL_MODEL, "kind"),
)
WORKERS = Metric("teal_workers", "gauge", "Worker processes by state.", (*VERSION_LABELS, "state"))
WORKER_RESTARTS = Metric(
    "teal_worker_restarts_total", "counter", "Workers started again after a death.", VERSION_LABELS
)
ENVOY_RESTARTS = Metric("teal_envoy_restarts_total", "counter", "Envoy started again after a death.", ())
XDS_ACK_SECONDS = Metric(
    "teal_xds_ack_seconds", "histogram", "From publish to Envoy's acknowledgement.", ("type",), QUEUE_SECONDS
)
XDS_NACKS = Metric("teal_xds_nacks_total", "counter", "Configurations Envoy refused.", ("type",))
XDS_NODES = Metric("teal_xds_connected_nodes", "gauge", "Envoys connected to this control plane.", ())
OPERATOR_COMMANDS = Metric(
    "teal_operator_commands_total", "counter", "Commands of operators by result.", ("command", "result")
)
COMMAND_RESULTS = ("ok", "invalid_input", "not_found", "conflict", "stale", "unavailable", "internal")
CONTROLLER_LEADER = Metric(
    "teal_controller_leader", "gauge", "1 when this control plane decides about rollouts, 0 when another one does.", ()
)
CONTROLLER_EPOCH = Metric(
    "teal_controller_epoch", "gauge", "How many times any control plane had begun to decide when this one last did.", ()
)
FENCED_WRITES = Metric(
    "teal_controller_fenced_writes_total",
    "counter",
    "Writes of this control plane that were refused because another one had taken over.",
    (),
)
AUDIT_RECORDS = Metric("teal_audit_records_total", "counter", "Events in the chained history, of all models.", ())
AUDIT_CHAIN_OK = Metric(
    "teal_audit_chain_ok", "gauge", "0 when an event of the history is not what was recorded, which is looked for.", ()
)
ROLLOUT_STATE = Metric(
    "teal_rollout_state", "gauge", "1 for the state the model is in, 0 for every other one.", (LABEL_MODEL, "state")
)
ROLLOUT_STATE_ENTERED = Metric(
    "teal_rollout_state_entered_timestamp_seconds",
    "gauge",
    "When the model's state was entered; a step of a rollout counts.",
    (LABEL_MODEL,),
)
ROLLOUT_STATE_DEADLINE = Metric(
    "teal_rollout_state_deadline_seconds",
    "gauge",
    "How long the model may be in its state before the control plane moves on; none where it may stay.",
    (LABEL_MODEL,),
)
ROLLOUT_DECISIONS = Metric(
    "teal_rollout_decisions_total",
    "counter",
    "Decisions the control plane made by itself, and what made it.",
    (LABEL_MODEL, "decision", "reason"),
)
DECISIONS = (
    *((decision, "plan") for decision in ("start", "advance", "cutover", "promote", "live", "fail", "release")),
    *(("rollback", reason) for reason in ("harm", "candidate_down", "no_evidence")),
    *(("hold", reason) for reason in ("harm", "suspicion", "difference", "wrong_split")),
    *(("hold", reason) for reason in ("live_sick", "live_down", "candidate_down")),
    ("blind", "no_evidence"), ("inconclusive", "time_over"), ("go_on", "recovered"), ("other", "other"),
)  # fmt: skip
"""Every decision with every reason there can be for it (deploy/rollout/steering.py); what is none of them is other."""
ROLLOUT_SECONDS_SPENT = Metric(
    "teal_rollout_duration_seconds",
    "histogram",
    "How long rollouts by evidence took from their first step to their end.",
    ("status",),
    ROLLOUT_SECONDS,
)
ROLLOUT_ENDS = ("promoted", "rolled_back", "other")
ROLLBACK_APPLY_SECONDS = Metric(
    "teal_rollback_apply_seconds",
    "histogram",
    "From the decision to take a version's traffic away, an operator's or not, to Envoy's acknowledgement.",
    (),
    ROLLBACK_SECONDS,
)
EVIDENCE_GAPS = Metric(
    "teal_rollout_evidence_gaps_total",
    "counter",
    "Looks at the counters that gave a rollout no evidence, by why.",
    (LABEL_MODEL, "reason"),
)
FEEDBACK = Metric("teal_feedback_total", "counter", "Labels received, by what became of them.", ("result",))
FEEDBACK_LAG = Metric(
    "teal_feedback_lag_seconds",
    "histogram",
    "From an answer to its label, of each version that is deployed.",
    VERSION_LABELS,
    LAG_SECONDS,
)

CONTROL_METRICS = (
    SLOT_INFO, WEIGHT_RATIO, REVISION, WORKERS, WORKER_RESTARTS, ENVOY_RESTARTS, XDS_ACK_SECONDS, XDS_NACKS, XDS_NODES,
    OPERATOR_COMMANDS, CONTROLLER_LEADER, CONTROLLER_EPOCH, FENCED_WRITES, AUDIT_RECORDS, AUDIT_CHAIN_OK,
    ROLLOUT_STATE, ROLLOUT_STATE_ENTERED, ROLLOUT_STATE_DEADLINE, ROLLOUT_DECISIONS, ROLLOUT_SECONDS_SPENT,
    ROLLBACK_APPLY_SECONDS, EVIDENCE_GAPS, FEEDBACK, FEEDBACK_LAG,
)  # fmt: skip

# A rollout by evidence, while it is under way
LAST_EVIDENCE = Metric(
    "teal_rollout_last_evidence_timestamp_seconds", "gauge", "When the newest evidence came.", (LABEL_MODEL,)
)
ROLLOUT_STEP = Metric("teal_rollout_step", "gauge", "The step of its plan a rollout is at; the first is 1.", ("model",))
ROLLOUT_STEPS = Metric("teal_rollout_steps", "gauge", "How many steps the plan has.", (LABEL_MODEL,))
EVIDENCE = Metric(
    "teal_rollout_evidence_log10",
    "gauge",
    "Evidence so far, as a power of ten: that the candidate does harm, or that it is safe.",
    (LABEL_MODEL, "watched", "hypothesis"),
)
EVIDENCE_THRESHOLD = Metric(
    "teal_rollout_evidence_threshold_log10",
    "gauge",
    "Evidence from which on the plan acts: rolls back for harm, promotes for safety.",
    (LABEL_MODEL, "watched", "hypothesis"),
)
RELATIVE_RISK = Metric(
    "teal_rollout_relative_risk",
    "gauge",
    "How many times as often the candidate is bad as the live version: estimate, and the interval that holds at every "
    "moment at once.",
    (LABEL_MODEL, "watched", "bound"),
)
ROLLOUT_UNITS = Metric(
    "teal_rollout_units_total",
    "counter",
    "What a rollout compared, such as requests or engine runs, by version.",
    (*VERSION_LABELS, "watched"),
)
ROLLOUT_BAD_UNITS = Metric(
    "teal_rollout_bad_units_total", "counter", "Of those, the bad ones.", (*VERSION_LABELS, "watched")
)
ETA = Metric(
    "teal_rollout_eta_seconds",
    "gauge",
    "Expected time to promote a candidate that is no worse, and to find one out that fails twice as often.",
    (LABEL_MODEL, "to"),
)

ROLLOUT_METRICS = (
    LAST_EVIDENCE, ROLLOUT_STEP, ROLLOUT_STEPS, EVIDENCE, EVIDENCE_THRESHOLD, RELATIVE_RISK, ROLLOUT_UNITS,
    ROLLOUT_BAD_UNITS, ETA,
)  # fmt: skip
