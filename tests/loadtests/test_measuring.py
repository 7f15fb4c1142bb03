"""What the benchmarks compute from what they measured, and how they read other programs' reports."""

import os
import time

import numpy as np
import pytest

from contracts.errors import NotFound
from contracts.package import Lineage, Manifest, PlanReport, digest_of
from loadtests import h2load, memory, wrk
from loadtests.arrivals import Arrivals, arriving
from loadtests.batcher_bench import long_enough
from loadtests.contest import LOST_SECONDS
from loadtests.contest import Outcome as Contested
from loadtests.homes import with_plan
from loadtests.load import Outcome, Sample
from loadtests.overload_bench import DEADLINE, Step
from loadtests.report import Row, goals_of, ratios, table
from loadtests.tensors import grpc_frame, grpc_infer, v2_binary, v2_json


def test_ratios_are_made_round_by_round_and_both_sides_have_the_same_rounds():
    assert ratios([4, 9], [2, 3]) == (2, 3)
    with pytest.raises(ValueError, match="zip"):
        ratios([1], [1, 2])


@pytest.mark.parametrize(
    ("goal", "at_least", "met"), [(2.0, True, True), (2.1, True, False), (2.0, False, True), (1.9, False, False)]
)
def test_the_median_decides_about_a_goal(goal: float, at_least: bool, met: bool):
    assert Row("r", "x", (9.0, 2.0, 1.0), goal, at_least).met is met


def test_a_missed_goal_is_named():
    rows = [
        {"name": "fast", "unit": "x", "rounds": [3.0], "goal": 2.0, "at_least": True},
        {"name": "slow", "unit": "x", "rounds": [1.0], "goal": 2.0, "at_least": True},
        {"name": "for information", "unit": "ms", "rounds": [1.0], "goal": None, "at_least": True},
    ]
    assert goals_of(rows) == (1, ["slow"])
    assert "| slow | 1 x | 1 … 1 | ≥ 2 x | **no** |" in table("t", [Row("slow", "x", (1.0,), 2.0)], [])


def test_arrivals_are_independent_repeatable_and_within_the_time():
    schedule = Arrivals(1000.0, 5.0, seed=3).schedule()
    assert (schedule == Arrivals(1000.0, 5.0, seed=3).schedule()).all()
    assert (schedule[:100] != Arrivals(1000.0, 5.0, seed=4).schedule()[:100]).all()
    assert (np.diff(schedule) >= 0).all()
    assert schedule[0] > 0
    assert schedule[-1] < 5.0
    assert len(schedule) == pytest.approx(5000, abs=5 * 5000**0.5)
    gaps = np.diff(schedule)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.1)  # exponential


def test_every_arrival_is_a_byte_in_the_pipe_and_none_is_early():
    arrivals = Arrivals(500.0, 0.2, seed=1)
    due, got = arrivals.schedule(), 0
    with arriving(arrivals) as (pipe, start):
        os.set_blocking(pipe, True)
        while got < len(due):
            got += len(os.read(pipe, 64))
            assert time.monotonic() - start >= due[got - 1]
        assert os.read(pipe, 64) == b""


def test_a_p99_needs_arrivals_but_not_for_ever():
    assert long_enough(10_000, 3) == 3
    assert long_enough(100, 3) == 4
    assert long_enough(1, 3) == 6


def test_what_was_lost_counts_in_the_p99():
    answered = np.linspace(0.001, 0.1, 100)
    assert Contested(answered, lost=0).p99 == pytest.approx(0.099)
    assert Contested(answered[:98], lost=2).p99 == LOST_SECONDS


def sample(latency: float, status: int, waited: float = 0.0) -> Sample:
    return Sample(due=1.0, sent=1.0 + waited, done=1.0 + latency, status=status, version="1", failure="")


def test_goodput_is_what_came_in_time_and_late_answers_are_none():
    samples = [sample(0.1, 200)] * 10 + [sample(DEADLINE + 0.1, 200)] * 5 + [sample(0.001, 503)] * 85
    step = Step(rate=50, seconds=2, outcome=Outcome(tuple(samples)), generator=0.1)
    assert step.goodput == 5
    assert step.admitted_p99 == pytest.approx(DEADLINE + 0.1)
    assert step.broken == 0


def test_a_refusal_is_timed_from_when_it_was_sent():
    samples = (sample(0.105, 503, waited=0.1), sample(0.2, 504), sample(0.3, 0))
    step = Step(rate=3, seconds=1, outcome=Outcome(samples), generator=0.1)
    assert step.refused_p99 == pytest.approx(0.005)
    assert step.broken == 1
    assert Step(rate=1, seconds=1, outcome=Outcome(samples[1:]), generator=0.1).refused_p99 is None
    assert step.admitted_p99 is None


def package(*plans: PlanReport) -> Manifest:
    return Manifest("saved_model", "d", "litert", plans, (), (1,), None, (), Lineage(), "now", {})


def test_another_plan_of_the_same_package_has_a_digest_of_its_own():
    chosen, passed = PlanReport("litert", "chosen", "", "plans/l"), PlanReport("tensorflow", "passed", "", "plans/t")
    manifest = package(chosen, passed)
    other = with_plan(manifest, "tensorflow")
    assert other.plan == "tensorflow"
    assert [(p.name, p.status) for p in other.plans] == [("litert", "passed"), ("tensorflow", "chosen")]
    assert digest_of(other) != digest_of(manifest)
    assert with_plan(manifest, "litert") == manifest


def test_a_plan_that_failed_is_never_served():
    manifest = package(PlanReport("litert", "chosen", "", "plans/l"), PlanReport("openvino", "failed", "", "plans/o"))
    with pytest.raises(NotFound, match="expected one of litert"):
        with_plan(manifest, "openvino")


def test_a_grpc_message_is_the_bytes_the_protocol_says():
    rows = np.array([[1.5, -2.0]], np.float32)
    assert grpc_infer("m", "x", rows) == (
        b"\x0a\x01m"  # 1 model_name
        b"\x2a\x0d\x0a\x01x\x12\x04FP32\x1a\x02\x01\x02"  # 5 inputs: name, datatype, packed shape
        b"\x3a\x08\x00\x00\xc0\x3f\x00\x00\x00\xc0"  # 7 raw_input_contents
    )
    assert grpc_frame(b"abc") == b"\x00\x00\x00\x00\x03abc"


def test_the_binary_body_says_where_its_tensor_begins():
    rows = np.array([[1, 2]], np.int32)
    body = v2_binary("ids", rows)
    at = int(body.headers["Inference-Header-Content-Length"])
    assert body.content[at:] == rows.tobytes()
    assert b'"binary_data_size": 8' in body.content[:at]
    assert v2_json("ids", rows).content == (
        b'{"inputs": [{"name": "ids", "shape": [1, 2], "datatype": "INT32", "data": [1, 2]}]}'
    )


H2LOAD = """finished in 3.00s, 8123.33 req/s, 1.63MB/s
requests: 24370 total, 24402 started, 24370 done, 24360 succeeded, 10 failed, 0 errored, 0 timeout
status codes: 24360 2xx, 0 3xx, 0 4xx, 10 5xx
traffic: 4.88MB (5117700) total, 1.30MB (1364720) headers (space savings 73.58%), 2.14MB (2241120) data
                     min         max         mean         sd        +/- sd
time for request:      988us     19.22ms      3.92ms       814us    85.02%
"""


def test_h2loads_report_is_read():
    assert h2load.parse(H2LOAD) == h2load.H2Result(rate=8123.33, requests=24370, failed=10, data=2241120)
    with pytest.raises(ValueError, match="no result"):
        h2load.parse("connection refused")


WRK = """Running 2s test @ http://127.0.0.1:1/
  Latency Distribution
     50%    1.52ms
     75%    1.60ms
     90%    1.80ms
     99%    3.10ms
  40880 requests in 2.00s, 8.00MB read
  Non-2xx or 3xx responses: 7
  Socket errors: connect 1, read 2, write 0, timeout 3
Requests/sec:  20437.14
"""


def test_wrks_report_is_read():
    assert wrk.parse(WRK) == wrk.WrkResult(rate=20437.14, p50=0.00152, p99=3.1 * 1e-3, requests=40880, failed=13)


def test_load_goes_to_this_machine_only():
    with pytest.raises(ValueError, match="loopback only"):
        wrk.run("http://example.com/", b"", connections=1, seconds=1)


def test_memory_is_the_proportional_set():
    assert memory.parse("Rss:  900 kB\nPss:       512 kB\nPss_Anon:  100 kB\n") == 512
    assert memory.parse("") == 0
    assert memory.megabytes([]) == 0
