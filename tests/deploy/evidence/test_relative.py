import math

import numpy as np
import pytest
from scipy.stats import nchypergeom_fisher

from deploy.evidence.blocks import NOTHING, Arm, Block
from deploy.evidence.dispersion import UNKNOWN
from deploy.evidence.interval import risk
from deploy.evidence.relative import Relative, log_fisher, update
from tests.deploy.evidence.simulate import SECONDS, Traffic

ALARM = math.log(1 / 0.01)
SAFE = math.log(1 / 0.05)
HALF_AN_HOUR = 360


def alarms(traffic: Traffic, runs: int, *, blocks: int = HALF_AN_HOUR, batches: bool = False) -> list[float]:
    """Seconds to the alarm in each run, infinity where there was none."""
    rng = np.random.default_rng(20261121)
    return [_alarm(traffic.batches(rng, blocks) if batches else traffic.blocks(rng, blocks)) for _ in range(runs)]


def _alarm(blocks: object) -> float:
    evidence = Relative()
    for i, block in enumerate(blocks, 1):  # type: ignore[arg-type,var-annotated]
        evidence = update(evidence, block)
        if evidence.log_harm >= ALARM:
            return i * SECONDS
    return math.inf


def count(times: list[float]) -> int:
    return sum(math.isfinite(t) for t in times)


def test_equal_versions_raise_the_alarm_in_at_most_21_of_1000_half_hours():
    assert count(alarms(Traffic(100, 0.1, 0.01, 0.01), 1000)) <= 21


def test_a_failure_rate_that_swings_for_both_is_evidence_of_nothing():
    assert count(alarms(Traffic(100, 0.1, 0.01, 0.01, swing=0.9), 1000)) <= 21


def test_batches_that_fail_together_are_counted_as_one_and_must_be():
    traffic = Traffic(100, 0.1, 0.01, 0.01, clump=16)
    assert count(alarms(traffic, 1000, batches=True)) <= 21
    assert count(alarms(traffic, 1000)) > 300


def test_three_times_the_errors_are_found_within_200_seconds():
    times = alarms(Traffic(100, 0.1, 0.01, 0.03), 1000, blocks=60)
    assert sum(t <= 200 for t in times) >= 990
    assert np.median(times) == pytest.approx(55, abs=SECONDS)
    assert np.quantile(times, 0.9) == pytest.approx(110, abs=2 * SECONDS)


@pytest.mark.parametrize(
    ("rps", "weight", "live", "candidate", "median"),
    [(100, 0.01, 0.01, 0.03, 395), (100, 0.25, 0.01, 0.03, 30), (100, 0.5, 0.01, 0.03, 25), (100, 0.1, 0.01, 0.1, 10),
     (100, 0.1, 0.001, 0.01, 55), (10, 0.1, 0.01, 0.03, 460), (1000, 0.01, 0.01, 0.03, 45)],
)  # fmt: skip
def test_the_time_to_an_alarm_is_what_was_worked_out(rps, weight, live, candidate, median):
    times = alarms(Traffic(rps, weight, live, candidate), 300, blocks=600)
    assert np.median(times) == pytest.approx(median, rel=0.12, abs=SECONDS)


@pytest.mark.parametrize(
    ("live", "weight", "margin", "median"), [(0.01, 0.1, 2.0, 105), (0.01, 0.5, 2.0, 50), (0.01, 0.5, 1.5, 142)]
)
def test_a_version_that_is_no_worse_is_shown_to_be(live, weight, margin, median):
    rng = np.random.default_rng(7)
    times = []
    for _ in range(300):
        evidence = Relative(margin=margin)
        for i, block in enumerate(Traffic(100, weight, live, live).blocks(rng, 720), 1):
            evidence = update(evidence, block)
            if evidence.log_safe >= SAFE:
                times.append(i * SECONDS)
                break
    assert np.median(times) == pytest.approx(median, rel=0.15)


def test_a_version_that_is_worse_than_the_margin_is_almost_never_shown_safe():
    rng = np.random.default_rng(8)
    shown = 0
    for _ in range(400):
        evidence = Relative()
        for block in Traffic(100, 0.25, 0.01, 0.02).blocks(rng, HALF_AN_HOUR):
            evidence = update(evidence, block)
            if evidence.log_safe >= SAFE:
                shown += 1
                break
    assert shown <= 33  # the 99.9 % bound of 400 tries at 5 %


def test_frequent_failures_at_the_margin_do_not_pass_as_safe():
    """Where most requests fail, a failure is no rare event, and the binomial share would be wrong."""
    rng = np.random.default_rng(9)
    shown = 0
    for _ in range(300):
        evidence = Relative()
        for _ in range(60):
            live, candidate = int(rng.binomial(40, 0.3)), int(rng.binomial(40, 0.46154))  # odds ratio 2
            evidence = update(evidence, Block(Arm(40, live), Arm(40, candidate)))
            if evidence.log_safe >= SAFE:
                shown += 1
                break
    assert shown <= 26


@pytest.mark.parametrize(
    "block", [Block(Arm(0, 0), Arm(5, 5)), Block(Arm(5, 5), Arm(0, 0)), Block(Arm(9, 0), Arm(9, 0))]
)
def test_a_block_with_one_arm_or_without_failures_says_nothing(block):
    assert update(Relative(), block) == Relative()


def test_the_order_of_blocks_does_not_matter_and_the_result_is_the_same_bit_for_bit_when_replayed():
    blocks = list(Traffic(100, 0.1, 0.01, 0.02).blocks(np.random.default_rng(1), 50))

    def replay(some: list[Block]) -> Relative:
        evidence = Relative()
        for block in some:
            evidence = update(evidence, block)
        return evidence

    assert replay(blocks) == replay(blocks)
    assert replay(blocks).log_harm == pytest.approx(replay(blocks[::-1]).log_harm)


def test_a_faster_half_hour_of_failures_on_the_live_version_is_no_harm():
    assert count(alarms(Traffic(100, 0.1, 0.03, 0.01), 200)) == 0


def test_tempering_by_the_measured_clumping_repairs_the_bound_where_failures_clump():
    traffic = Traffic(100, 0.1, 0.01, 0.01, clump=4)
    rng, raised, plain, factors = np.random.default_rng(3), 0, 0, []
    for _ in range(300):
        evidence, untempered, clumping = Relative(), Relative(), UNKNOWN
        for block in traffic.blocks(rng, HALF_AN_HOUR):
            evidence = update(evidence, block, clumping.factor)
            untempered = update(untempered, block)
            clumping = clumping.update((block.live.bad, block.live.units - block.live.bad))
            if evidence.log_harm >= ALARM:
                raised += 1
                break
        plain += untempered.log_harm >= ALARM
        factors.append(clumping.factor)
    assert raised <= 10
    assert plain > 10
    assert 3 < np.median(factors) < 4.5


def test_independent_units_are_soon_known_to_be_independent():
    clumping = UNKNOWN
    assert clumping.factor == 3
    for block in Traffic(100, 0.1, 0.05, 0.05).blocks(np.random.default_rng(2), 60):
        clumping = clumping.update((block.live.bad, block.live.units - block.live.bad))
    assert clumping.factor < 1.15
    assert UNKNOWN.update((0, 0)) == UNKNOWN


def test_what_is_tolerated_is_no_harm_however_long_it_lasts_and_however_often_it_happens():
    """At odds of 1.25 exactly, frequent and rare."""
    for live, candidate in ((0.4, 0.4545), (0.01, 0.01247)):
        rng, raised = np.random.default_rng(11), 0
        for _ in range(200):
            evidence = Relative(tolerance=1.25)
            for block in Traffic(100, 0.25, live, candidate).blocks(rng, 120):
                evidence = update(evidence, block)
                if evidence.log_harm >= ALARM:
                    raised += 1
                    break
        assert raised <= 9  # the 99.9 % bound of 200 tries at 1 %


def test_the_interval_holds_the_true_relative_risk_and_narrows():
    assert risk((), 0.01) is None
    assert risk((Block(Arm(500, 0), Arm(500, 0)), Block(Arm(0, 0), Arm(5, 5))), 0.01) is None
    seen, widths = NOTHING, []
    for i, block in enumerate(Traffic(100, 0.25, 0.02, 0.06).blocks(np.random.default_rng(4), 240)):
        seen += block
        if i in (60, 239):
            low, best, high = risk((seen,), 0.01)
            assert low < 3 < high
            assert low < best < high
            widths.append(high / low)
    assert widths[1] < widths[0] < 20


def test_the_interval_holds_at_every_moment_at_once_also_when_weights_change():
    rng, missed = np.random.default_rng(5), 0
    for _ in range(300):
        strata: list[Block] = []
        for weight in (0.05, 0.25, 0.5):
            strata.append(NOTHING)
            for block in Traffic(100, weight, 0.02, 0.04).blocks(rng, 15):
                strata[-1] += block
                found = risk(strata, 0.05)
                if found is not None and not found.lower <= 2 <= found.upper:
                    missed += 1
                    break
            else:
                continue
            break
    assert missed <= 26  # the 99.9 % bound of 300 tries at 5 %


def test_a_version_that_never_fails_beside_one_that_does_has_a_bound_on_one_side_only():
    found = risk((Block(Arm(9000, 0), Arm(1000, 9)),), 0.01)
    assert found.lower > 1
    assert found.estimate == found.upper == 20


@pytest.mark.parametrize("odds", [0.5, 1.0, 2.0, 7.5])
@pytest.mark.parametrize(
    "block",
    [
        Block(Arm(40, 10), Arm(40, 25)),
        Block(Arm(5, 5), Arm(9, 1)),
        Block(Arm(4000, 2000), Arm(450, 260)),
        Block(Arm(3, 0), Arm(3, 3)),
    ],
)
def test_the_law_of_frequent_failures_is_fishers(odds, block):
    bad = block.live.bad + block.candidate.bad
    law = nchypergeom_fisher(block.live.units + block.candidate.units, block.candidate.units, bad, odds)
    assert log_fisher(odds, block) == pytest.approx(law.logpmf(block.candidate.bad), abs=1e-7)
