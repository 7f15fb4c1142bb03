"""The rules of a deployment: every state answers every verb, and no sequence of commands ever leaves the lines."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from contracts.errors import Conflict, Internal, InvalidInput
from contracts.names import Color
from contracts.traffic import TOTAL
from deploy.evidence.blocks import Arm, Block
from deploy.evidence.counted import Compared, Counted
from deploy.rollout.deployment import ON_TRIAL, SENTENCES, TRIED, Deployment, Place, State, from_text, to_text
from deploy.rollout.events import Command, Deploy, Drain, Extend, Health, Observation, Order, Plain, Verb, Weight
from deploy.rollout.moves import UNDO_SECONDS
from deploy.rollout.plan import BLUEGREEN, Strategy
from deploy.rollout.plan import CANARY as CANARY_PLAN
from deploy.rollout.rules import TABLE, WARMING_SECONDS, decide
from deploy.rollout.trial import Stage, Trial

NOW = 1_000.0
WELL = Health(ready=1)
ALL_WELL = Observation(live=WELL, candidate=WELL, previous=WELL)
TRIAL = Trial.begin(CANARY_PLAN).begun(Stage.CANARY, 3)  # at 25 %
ONE, TWO = Place(1, Color.BLUE, "d1", 1), Place(2, Color.GREEN, "d2", 1)


def base(state: State) -> Deployment:
    """A deployment in `state`, with version 1 live where something is."""
    d = Deployment("m", revision=7, state=State.LIVE, live=ONE)
    return {
        State.ABSENT: replace(d, state=State.ABSENT, live=None),
        State.WARMING: replace(d, state=State.WARMING, candidate=TWO),
        State.CANARY: replace(d, state=State.CANARY, candidate=TWO, weight=2500),
        **{state: replace(d, state=state, candidate=TWO, weight=2500, trial=TRIAL) for state in TRIED - {State.SHADOW}},
        State.SHADOW: replace(d, state=State.SHADOW, candidate=TWO, trial=Trial.begin(BLUEGREEN)),
        State.PROMOTED: replace(d, state=State.PROMOTED, live=TWO, previous=ONE, undo_until=NOW + 10),
        State.LIVE: d,
        State.ROLLED_BACK: replace(d, state=State.ROLLED_BACK),
        State.UNDONE: replace(d, state=State.UNDONE, previous=TWO, undo_until=NOW + 10),
        State.FAILED: replace(d, state=State.FAILED),
    }[state]


def command(verb: Verb) -> Command:
    if verb is Verb.DEPLOY:
        return Deploy(3, "d3")
    if verb is Verb.WEIGHT:
        return Weight(5000)
    if verb is Verb.EXTEND:
        return Extend(600.0)
    return Drain() if verb is Verb.DRAIN else Plain(verb)


def give(d: Deployment, said: Command, **order: object) -> Deployment:
    return decide(d, Order(said, **{"seen": ALL_WELL, **order}), NOW).deployment  # type: ignore[arg-type]


# state → verb → the state it leads to; "same" for done already, "no" for a refusal
EXPECTED = {
    State.ABSENT: "warming no no same no no same no no no no",
    State.WARMING: "no no no rolled_back rolled_back no absent no no no no",
    State.SHADOW: "no no no rolled_back rolled_back no absent paused no canary shadow",
    State.CANARY: "no canary promoted rolled_back rolled_back no absent no no no no",
    State.HOLD: "no paused no rolled_back rolled_back no absent paused no canary hold",
    State.BLIND: "no paused no rolled_back rolled_back no absent paused no canary blind",
    State.PAUSED: "no paused no rolled_back rolled_back no absent same canary canary paused",
    State.INCONCLUSIVE: "no paused no rolled_back rolled_back no absent no no no canary",
    State.BAKING: "no paused no rolled_back rolled_back no absent paused no canary baking",
    State.PROMOTED: "warming no same undone undone undone absent no no no no",
    State.LIVE: "warming no no same no no absent no no no no",
    State.ROLLED_BACK: "warming no no same same no absent no no no no",
    State.UNDONE: "warming no promoted same same same absent no no no no",
    State.FAILED: "warming no no same same no absent no no no no",
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("verb", Verb)
def test_every_state_answers_every_verb_as_the_table_says(state: State, verb: Verb) -> None:
    before = base(state)
    expected = dict(zip(Verb, EXPECTED[state].split(), strict=True))[verb]
    if expected == "no":
        with pytest.raises(Conflict) as refusal:
            give(before, command(verb))
        assert refusal.value.message.startswith("model m: ")
        return
    after = give(before, command(verb))
    if expected == "same":
        assert after == before
    else:
        assert after.state == expected
        assert after.revision == before.revision + 1
        assert after.reason


def test_the_table_is_complete_and_every_state_has_its_sentence() -> None:
    assert set(TABLE) == set(State) == set(SENTENCES) == set(EXPECTED)
    assert all(set(row) == set(Verb) for row in TABLE.values())


def test_after_the_first_version_failed_only_another_deploy_helps() -> None:
    failed = replace(base(State.FAILED), live=None)
    assert give(failed, Deploy(1, "d1")).state is State.WARMING
    assert give(failed, Plain(Verb.ABORT)) == give(failed, Drain()) == failed
    for verb in (Verb.WEIGHT, Verb.PROMOTE, Verb.ROLLBACK, Verb.UNDO, Verb.PAUSE, Verb.RESUME, Verb.SKIP, Verb.EXTEND):
        with pytest.raises(Conflict, match="nothing is deployed"):
            give(failed, command(verb))


@pytest.mark.parametrize("state", State)
def test_a_refusal_names_something_to_do_next(state: State) -> None:
    for verb in Verb:
        try:
            give(base(state), command(verb))
        except Conflict as refusal:
            assert any(w in refusal.message for w in ("teal ", "abort", "promote", "deploy", "repeat")), refusal.message


@pytest.mark.parametrize("state", State)
def test_json_keeps_every_state(state: State) -> None:
    assert from_text(to_text(base(state))) == base(state)


def test_the_first_version_goes_live_directly_once_warm() -> None:
    warming = give(Deployment("m"), Deploy(1, "d1", replicas=2))
    assert (warming.state, warming.live, warming.routed()) == (State.WARMING, None, ())
    half = decide(warming, Observation(candidate=Health(ready=1)), NOW)
    assert half.action is None
    warm = decide(warming, Observation(candidate=Health(ready=2)), NOW).deployment
    assert (warm.state, warm.live, warm.candidate) == (State.LIVE, replace(ONE, replicas=2), None)


def test_after_a_minute_a_version_is_used_with_the_workers_it_has() -> None:
    warming = give(Deployment("m"), Deploy(1, "d1", replicas=2))
    late = decide(warming, Observation(candidate=Health(ready=1), warming_seconds=61), NOW)
    assert late.deployment.state is State.LIVE


def test_a_candidate_starts_in_the_other_place_as_wide_as_live_and_without_traffic() -> None:
    wide = replace(base(State.LIVE), live=replace(ONE, replicas=3))
    warming = give(wide, Deploy(2, "d2", Strategy.MANUAL))
    assert warming.candidate == replace(TWO, replicas=3)
    warm = decide(warming, Observation(live=WELL, candidate=Health(ready=3)), NOW).deployment
    assert (warm.state, warm.weight) == (State.CANARY, 0)


def test_direct_switches_as_soon_as_warm_and_keeps_the_former_version() -> None:
    warming = give(base(State.LIVE), Deploy(2, "d2", Strategy.DIRECT))
    warm = decide(warming, ALL_WELL, NOW).deployment
    assert (warm.live, warm.previous, warm.undo_until) == (TWO, ONE, NOW + UNDO_SECONDS)


def test_a_broken_candidate_fails_with_its_reason_and_live_is_untouched() -> None:
    broken = Observation(live=WELL, candidate=Health(broken="package does not verify"))
    after = decide(base(State.WARMING), broken, NOW).deployment
    assert (after.state, after.live, after.candidate) == (State.FAILED, ONE, None)
    assert "package does not verify" in after.reason


def test_a_candidate_that_never_gets_ready_is_given_up_after_fifteen_minutes() -> None:
    waiting = Observation(candidate=Health(waiting_for="loading"), warming_seconds=WARMING_SECONDS)
    assert "loading" in decide(base(State.WARMING), waiting, NOW).deployment.reason
    assert decide(base(State.WARMING), replace(waiting, warming_seconds=WARMING_SECONDS - 1), NOW).action is None


def test_a_repeated_rollback_never_goes_forward_to_the_version_rolled_away_from() -> None:
    undone = give(base(State.PROMOTED), Plain(Verb.ROLLBACK))
    assert (undone.live, undone.previous) == (ONE, TWO)
    assert give(undone, Plain(Verb.ROLLBACK)) == undone
    assert give(undone, Plain(Verb.PROMOTE)).live == TWO


def test_the_undo_window_ends_and_the_former_version_is_released() -> None:
    promoted = base(State.PROMOTED)
    assert decide(promoted, ALL_WELL, NOW + 9).action is None
    over = decide(promoted, ALL_WELL, NOW + 10).deployment
    assert (over.state, over.live, over.previous) == (State.LIVE, TWO, None)
    with pytest.raises(Conflict, match="teal deploy m VERSION"):
        give(over, Plain(Verb.ROLLBACK))


def test_a_version_in_its_undo_window_is_a_candidate_again_without_moving() -> None:
    warming = give(base(State.PROMOTED), Deploy(1, "d1"))
    assert warming.candidate == ONE


def test_a_third_version_takes_the_place_of_the_one_kept_for_undo() -> None:
    warming = give(base(State.PROMOTED), Deploy(3, "d3"))
    assert (warming.previous, warming.undo_until) == (None, None)
    assert warming.candidate is not None
    assert warming.candidate.color is Color.BLUE
    assert "version 1 gave up that place" in warming.reason


def test_traffic_never_moves_onto_a_version_without_a_ready_worker() -> None:
    dead = Observation(live=WELL, candidate=Health(waiting_for="killed by signal 9"), previous=Health())
    for state, said in (
        (State.CANARY, Weight(3000)),
        (State.CANARY, Plain(Verb.PROMOTE)),
        (State.PROMOTED, Plain(Verb.UNDO)),
    ):
        with pytest.raises(Conflict, match="no ready worker"):
            give(base(state), said, seen=dead)
    assert give(base(State.CANARY), Weight(0), seen=dead).weight == 0
    assert give(base(State.CANARY), Plain(Verb.ABORT), seen=dead).state is State.ROLLED_BACK


def test_between_two_dead_versions_an_operator_may_choose() -> None:
    assert give(base(State.PROMOTED), Plain(Verb.UNDO), seen=Observation()).state is State.UNDONE


@pytest.mark.parametrize("said", [Weight(3000), Plain(Verb.PROMOTE)])
def test_a_stale_tab_cannot_give_a_candidate_more_users(said: Command) -> None:
    with pytest.raises(Conflict, match="revision 7, not 6"):
        give(base(State.CANARY), said, expected_revision=6)
    assert give(base(State.CANARY), said, expected_revision=7).revision == 8


@pytest.mark.parametrize("said", [Weight(100), Plain(Verb.ABORT), Plain(Verb.ROLLBACK), Drain(2), Drain()])
def test_what_reduces_exposure_needs_no_revision(said: Command) -> None:
    assert give(base(State.CANARY), said, expected_revision=1).revision == 8


def test_scaling_keeps_everything_else() -> None:
    canary = base(State.CANARY)
    wider = give(canary, Deploy(1, "d1", replicas=4))
    assert (wider.live, wider.candidate, wider.weight) == (replace(ONE, replicas=4), TWO, 2500)
    assert wider.state is State.CANARY
    with pytest.raises(Conflict, match="already live with 1"):
        give(canary, Deploy(1, "d1", replicas=1))
    assert give(canary, Deploy(2, "d2")) == canary
    assert give(canary, Deploy(2, "d2", replicas=2)).candidate == replace(TWO, replicas=2)


def test_draining_one_version_leaves_the_other() -> None:
    assert give(base(State.CANARY), Drain(2)).state is State.ROLLED_BACK
    assert give(base(State.PROMOTED), Drain(1)).state is State.LIVE
    assert give(base(State.PROMOTED), Drain(9)) == base(State.PROMOTED)
    with pytest.raises(Conflict, match="without naming a version"):
        give(base(State.CANARY), Drain(1))


def test_the_operators_reason_is_carried_along() -> None:
    assert give(base(State.CANARY), Plain(Verb.ABORT), reason="pager").reason.endswith(": pager")


@pytest.mark.parametrize("replicas", [0, -1, 10_000])
def test_an_absurd_number_of_workers_is_refused(replicas: int) -> None:
    with pytest.raises(InvalidInput, match="replicas"):
        Deploy(1, "d", replicas=replicas)


def test_an_inconsistent_deployment_cannot_be_made() -> None:
    for wrong in (
        {"state": State.LIVE, "live": None},
        {"state": State.LIVE, "weight": 5},
        {"state": State.CANARY, "candidate": replace(TWO, color=Color.BLUE)},
        {"state": State.CANARY, "candidate": replace(TWO, version=1)},
        {"state": State.PROMOTED, "previous": TWO},
    ):
        with pytest.raises(Internal, match="cannot be"):
            replace(base(State.LIVE), **wrong)


ARMS = st.integers(0, 400).flatmap(lambda n: st.builds(Arm, st.just(n), st.integers(0, n)))
BLOCKS = st.builds(Block, ARMS, ARMS)
MANY = st.integers(0, 200)
READY = st.integers(0, 3).map(lambda n: Health(ready=n))
SEEN = st.builds(
    Observation,
    live=READY,
    candidate=st.one_of(READY, st.just(Health(broken="gone"))),
    previous=READY,
    warming_seconds=st.floats(0, 1000),
    seconds=st.floats(0, 100),
    counted=st.one_of(st.none(), st.builds(Counted, BLOCKS, BLOCKS, compared=st.builds(Compared, MANY, MANY))),
    in_force=st.booleans(),
)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        lambda v, s, r, again, instead: Deploy(v, f"d{v}", s, r, retry=again, supersede=instead),
        st.integers(1, 4),
        st.sampled_from([None, *Strategy]),
        st.one_of(st.none(), st.integers(1, 3)),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(Weight, st.integers(0, TOTAL)),
    st.builds(Drain, st.one_of(st.none(), st.integers(1, 4))),
    st.builds(Extend, st.floats(1, 7200)),
    st.builds(
        Plain,
        st.sampled_from([v for v in Verb if v not in (Verb.DEPLOY, Verb.WEIGHT, Verb.DRAIN, Verb.EXTEND)]),
        st.booleans(),
    ),
)


class Operators(RuleBasedStateMachine):
    """Operators and workers do what they like; the deployment stays sound and its promises hold."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.d = Deployment("m")
        self.history = [self.d]

    def take(self, after: Deployment) -> None:
        if after.revision == self.d.revision:
            assert replace(after, trial=self.d.trial, reason=self.d.reason) == self.d, (
                "only evidence changes without a record"
            )
            self.d = after
            return
        assert after.revision == self.d.revision + 1
        self.history.append(after)
        self.d = after

    @rule(said=COMMANDS, seen=SEEN, lag=st.integers(0, 3))
    def somebody_commands(self, said: Command, seen: Observation, lag: int) -> None:
        before = self.d
        try:
            after = decide(before, Order(said, seen, expected_revision=before.revision - lag), self.now).deployment
        except Conflict:
            assert said.verb is not Verb.ABORT, "abort is never refused"
            return
        if lag and after is not before:
            assert self.exposure(after) <= self.exposure(before), "a stale tab gave a candidate more users"
        self.take(after)

    @rule(seen=SEEN)
    def the_fleet_is_looked_at(self, seen: Observation) -> None:
        before = self.d
        after = decide(before, seen, self.now).deployment
        if before.live is not None and after.state is not State.PROMOTED:
            assert after.live == before.live, "only a promotion changes what is live"
        if self.exposure(after) > self.exposure(before) and before.state is not State.WARMING:
            assert seen.counted is not None, "no data never advances"
            assert seen.candidate.ready, "nothing moves onto a candidate without a worker"
            assert seen.in_force, "a step begins after Envoy acknowledged the one before"
        if after.state is State.ROLLED_BACK and before.state is not State.ROLLED_BACK:
            assert seen.live.ready, "rolled back onto a version without a worker"
        self.take(after)

    @rule(seconds=st.sampled_from([1.0, 3600.0, UNDO_SECONDS]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def colors_stay_with_their_version(self) -> None:
        if len(self.history) < 2:
            return
        before, after = self.history[-2:]
        for _, place in before.places():
            still = after.place_of(place.version)
            assert still is None or still[1].color is place.color

    @invariant()
    def it_survives_the_store(self) -> None:
        assert from_text(to_text(self.d)) == self.d

    @staticmethod
    def exposure(d: Deployment) -> int:
        """Traffic of whatever is not the version that has been live longest."""
        return d.weight if d.state in ON_TRIAL else 0


TestOperators = Operators.TestCase
TestOperators.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(units=st.one_of(st.integers(-50, -1), st.integers(TOTAL + 1, TOTAL + 50)))
def test_a_weight_outside_0_to_100_is_refused(units: int) -> None:
    with pytest.raises(InvalidInput, match="out of range"):
        give(base(State.CANARY), Weight(units))


def test_threads_stay_with_a_version_and_are_taken_over_by_the_next() -> None:
    first = give(Deployment("m"), Deploy(1, "d1", threads=3))
    assert first.candidate is not None and first.candidate.threads == 3
    live = replace(base(State.LIVE), live=replace(ONE, threads=3))
    following = give(live, Deploy(2, "d2"))
    assert following.candidate is not None and following.candidate.threads == 3
    chosen = give(live, Deploy(2, "d2", threads=0))
    assert chosen.candidate is not None and chosen.candidate.threads == 0
    with pytest.raises(Conflict, match="deployed with 3 threads, which cannot change while it serves"):
        give(live, Deploy(1, "d1", replicas=2, threads=1))
    with pytest.raises(InvalidInput, match="threads -1 is out of range"):
        Deploy(1, "d1", threads=-1)
