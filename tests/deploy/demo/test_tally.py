"""What the demo claims at its end is counted here; counting must not flatter."""

import pytest

from deploy.demo.tally import Answer, Tally, is_plausible, versions


def answers(version: int, right: int, wrong: int) -> list[Answer]:
    return [Answer(0.0, 0.001, version, correct=True)] * right + [Answer(0.0, 0.002, version)] * wrong


def test_shares_and_accuracy_are_counted_by_version() -> None:
    tally = Tally([*answers(1, right=70, wrong=5), *answers(2, right=25, wrong=0)])
    assert (tally.share(1), tally.share(2)) == (75.0, 25.0)
    assert tally.accuracy(1) == pytest.approx(93.33, abs=0.01)
    assert tally.accuracy(2) == 100.0


def test_a_failure_counts_as_failure_and_in_the_latency_but_in_nobodys_share() -> None:
    tally = Tally([*answers(1, right=9, wrong=0), Answer(0.0, 30.0, failure="503: nobody")])
    assert tally.failures == ("503: nobody",)
    assert tally.share(1) == 100.0
    assert tally.latency(1.0) == 30.0
    assert versions(tally.answers) == {1}


def test_nothing_seen_is_unknown_and_not_zero() -> None:
    empty = Tally([])
    assert (empty.share(1), empty.accuracy(1), empty.latency(0.5)) == (None, None, None)
    assert Tally([Answer(0.0, 1.0, failure="x")]).share(1) is None


@pytest.mark.parametrize(
    ("observed", "total", "percent", "plausible"),
    [
        (0, 900, 0.0, True),
        (1, 900, 0.0, False),
        (900, 900, 100.0, True),
        (899, 900, 100.0, False),
        (0, 900, 1.0, True),
        (30, 900, 1.0, False),
        (225, 900, 25.0, True),
        (300, 900, 25.0, False),
        (450, 900, 50.0, True),
    ],
)
def test_a_broken_split_is_told_from_bad_luck(observed: int, total: int, percent: float, plausible: bool) -> None:
    assert is_plausible(observed, total, percent) is plausible
