"""What is written without Prometheus' client is read by it as it was meant."""

import math

from prometheus_client.parser import text_string_to_metric_families

from contracts.metrics import Metric
from deploy.monitoring.exposition import text
from deploy.monitoring.readings import Reading

GAUGE = Metric("teal_gauge", "gauge", "A gauge.", ("model", "said"))
COUNTER = Metric("teal_things_total", "counter", "A counter.", ())
HISTOGRAM = Metric("teal_lag_seconds", "histogram", "A histogram.", ("model",), (1.0,))


def test_samples_come_back_with_their_labels_and_values_whatever_the_order_they_came_in() -> None:
    found = [
        Reading(GAUGE, ("a", 'he said "no\\yes"\n'), 1),
        Reading(COUNTER, (), 3),
        Reading(GAUGE, ("b", ""), -math.inf),
        Reading(HISTOGRAM, ("a", "1.0"), 1, "_bucket"),
        Reading(HISTOGRAM, ("a", "+Inf"), 2, "_bucket"),
        Reading(HISTOGRAM, ("a",), 2, "_count"),
        Reading(HISTOGRAM, ("a",), 5.5, "_sum"),
        Reading(GAUGE, ("c", "x"), 1e-300),
    ]
    families = {family.name: family for family in text_string_to_metric_families(text(found))}
    assert {name: family.type for name, family in families.items()} == {
        "teal_gauge": "gauge", "teal_things": "counter", "teal_lag_seconds": "histogram",
    }  # fmt: skip
    gauges = {tuple(s.labels.values()): s.value for s in families["teal_gauge"].samples}
    assert gauges == {("a", 'he said "no\\yes"\n'): 1.0, ("b", ""): -math.inf, ("c", "x"): 1e-300}
    assert [(s.name, s.value) for s in families["teal_things"].samples] == [("teal_things_total", 3.0)]
    assert [(s.name, s.labels.get("le"), s.value) for s in families["teal_lag_seconds"].samples] == [
        ("teal_lag_seconds_bucket", "1.0", 1), ("teal_lag_seconds_bucket", "+Inf", 2),
        ("teal_lag_seconds_count", None, 2), ("teal_lag_seconds_sum", None, 5.5),
    ]  # fmt: skip


def test_what_is_not_a_number_says_so() -> None:
    ((sample,),) = [family.samples for family in text_string_to_metric_families(text([Reading(COUNTER, (), math.nan)]))]
    assert math.isnan(sample.value)
