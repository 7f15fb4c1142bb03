"""Part of the evidence is evidence of harm, and not enough to go ahead on."""

from dataclasses import replace

import pytest

from contracts.metrics import LATENCY_SECONDS
from deploy.evidence.blocks import NOTHING, Arm, Block
from deploy.evidence.counted import Counted
from deploy.rollout.deployment import State
from deploy.rollout.plan import CANARY
from deploy.rollout.steering import Seen, Turn, steer
from deploy.rollout.trial import Trial

WHY = "engine runs are not counted: worker digits-2-green-0 does not answer"


def counted(failed: int = 0, partial: str = WHY) -> Counted:
    requests = Block(Arm(9900, 0), Arm(100, failed))
    slower = tuple(Block(Arm(9900, 0), Arm(100, 0)) for _ in LATENCY_SECONDS)
    return Counted(requests, NOTHING, slower, partial=partial)


def looks(state: State, found: Counted, times: int, trial: Trial | None = None) -> tuple[Trial, set[Turn], str]:
    trial, turns, reason = trial or Trial.begin(CANARY), set(), ""
    for _ in range(times):
        trial, judgement = steer(state, trial, Seen(5.0, found, found.partial))
        turns.add(judgement.turn)
        reason = judgement.reason
        if judgement.state is not None:
            state = judgement.state
    return trial, turns, reason


def test_nothing_goes_ahead_on_part_of_the_evidence_and_it_becomes_blind_with_the_reason():
    trial, turns, reason = looks(State.CANARY, counted(), 100)
    assert turns == {Turn.STAY, Turn.HALT}
    assert trial.unseen == 500
    assert reason.endswith(WHY)


def test_harm_in_part_of_the_evidence_rolls_back():
    assert Turn.ROLLBACK in looks(State.CANARY, counted(failed=40), 5)[1]


@pytest.mark.parametrize("state", [State.HOLD, State.BLIND])
def test_what_stood_still_goes_on_with_all_of_the_evidence_only(state):
    assert Turn.GO_ON not in looks(state, counted(), 5)[1]
    assert looks(state, counted(partial=""), 1)[1] == {Turn.GO_ON}


def test_a_stretch_that_began_before_the_weights_changed_says_nothing_about_their_split():
    trial = replace(Trial.begin(CANARY), settled=True, dwelt=4.0)
    old = replace(counted(partial=""), ago=6.0)
    assert trial.saw(old, in_force=True).split == NOTHING
    assert trial.saw(replace(old, ago=4.0), in_force=True).split == old.errors
