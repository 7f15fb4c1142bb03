"""Evidence out of Prometheus: what it stored becomes stretches of both versions, and everything else says why not."""

import asyncio
import json
from collections.abc import Iterator, Mapping

import pytest

from contracts.errors import InvalidInput, Unavailable
from deploy import prometheus
from deploy.evidence.blocks import NOTHING, Arm, Block
from deploy.evidence.counters import Gap, GapKind, Kind, Looked, Told
from deploy.evidence.opinions import Line, follow
from deploy.evidence.pairing import Both, Stretch
from deploy.evidence.queried import lines
from deploy.prometheus import PrometheusCounters
from deploy.settings import prometheus_url
from tests.fakes.prometheus import FakePrometheus, Said, fake_prometheus

LIVE, CANDIDATE = ("digits", 1), ("digits", 2)
COLORS = {1: "blue", 2: "green"}
Page = Mapping[str, float | str]


def envoy(live: float | str, candidate: float | str, failed: int = 0, uptime: float = 60.0) -> Page:
    """Envoy's page; failures of the candidate are exported once there are any, as Envoy does it."""
    page: dict[str, float | str] = {"envoy_server_uptime": uptime}
    for version, answered in ((1, live), (2, candidate)):
        page[f"envoy_cluster_upstream_rq_completed{who(version)}"] = answered
        page[f"envoy_cluster_upstream_rq_retry_success{who(version)}"] = 0
    if failed:
        page[f"envoy_cluster_upstream_rq_xx{who(2, envoy_response_code_class='5')}"] = failed
    return page


def who(version: int, kind: str = "predict", **more: str) -> str:
    labels = {"kind": kind, "model": "digits", "version": str(version), "color": COLORS[version], **more}
    labels["envoy_cluster_name"] = f"{kind}|0a-1b|digits|{version}|{COLORS[version]}"
    return "{" + ",".join(f'{k}="{v}"' for k, v in labels.items()) + "}"


def worker(version: int, batches: float, began: float = 1000.0) -> Page:
    labels = f'model="digits",version="{version}",color="{COLORS[version]}",outcome="ok"'
    return {f"teal_batches_total{{{labels}}}": batches, "process_start_time_seconds": began}


class Watching:
    """One rollout that asks one Prometheus, look after look."""

    def __init__(self, fake: FakePrometheus) -> None:
        self.fake = fake
        self._loop = asyncio.Runner()
        self._counters = PrometheusCounters(fake.url)
        self._line = Line()

    def look(self) -> Looked:
        return self._loop.run(self._counters.look([LIVE, CANDIDATE]))

    def told(self, *, mirrored: bool = False) -> Stretch | Gap:
        try:
            looked = self.look()
        except Unavailable as error:
            heard: Both | Gap = Gap(error.message, GapKind.UNAVAILABLE)
        else:
            heard = Both(looked.samples.get(LIVE, {}), looked.samples.get(CANDIDATE, {}), mirrored, looked.at)
        self._line, said = follow(self._line, heard)
        return said

    def scraped(self, live: float | str, candidate: float | str, runs: int, later: float = 5.0, **more: float) -> None:
        """Everything was scraped, `later` than the last time."""
        self.fake.now += later
        self.fake.scrape("teal-envoy", "envoy", envoy(live, candidate, **more))
        self.fake.scrape("teal-worker", "digits-1-blue-0", worker(1, runs))
        self.fake.scrape("teal-worker", "digits-2-green-0", worker(2, runs))

    def close(self) -> None:
        self._loop.run(self._counters.close())
        self._loop.close()


@pytest.fixture
def watching() -> Iterator[Watching]:
    with fake_prometheus() as fake:
        here = Watching(fake)
        try:
            yield here
        finally:
            here.close()


@pytest.fixture
def begun(watching: Watching) -> Watching:
    """It has looked once."""
    watching.scraped(100, 10, 20)
    assert gap_of(watching).kind is GapKind.FIRST_LOOK
    return watching


def gap_of(watching: Watching) -> Gap:
    said = watching.told()
    assert isinstance(said, Gap), said
    return said


def stretch_of(watching: Watching) -> Stretch:
    said = watching.told()
    assert isinstance(said, Stretch), said
    return said


def test_two_scrapes_make_a_stretch_with_what_was_counted_between_them(begun: Watching) -> None:
    begun.scraped(190, 20, 29)
    found = stretch_of(begun)
    assert found.counted.errors == Block(Arm(90, 0), Arm(10, 0))
    assert found.counted.batches == Block(Arm(9, 0), Arm(9, 0))
    assert (found.until - found.since, found.counted.partial) == (5.0, "")


def test_a_series_that_appears_with_its_first_failure_counted_nothing_before(begun: Watching) -> None:
    begun.scraped(190, 20, 29, failed=3)
    assert stretch_of(begun).counted.errors.candidate == Arm(10, 3)


def test_until_the_next_scrape_nothing_is_told_twice(begun: Watching) -> None:
    begun.scraped(190, 20, 29)
    stretch_of(begun)
    begun.fake.now += 2
    assert gap_of(begun).kind is GapKind.PENDING
    begun.scraped(200, 21, 30)
    assert stretch_of(begun).counted.errors == Block(Arm(10, 0), Arm(1, 0))


def test_its_clock_may_be_years_off_ours(begun: Watching) -> None:
    begun.fake.now += 10
    begun.fake.scrape("teal-envoy", "envoy", envoy(150, 15))
    found = stretch_of(begun)
    assert (found.asked, found.until) == (begun.fake.now, begun.fake.now)


def test_only_raw_samples_of_the_models_on_trial_are_asked_for(begun: Watching) -> None:
    assert not any("rate" in asked or "increase" in asked for asked in begun.fake.asked)
    counters = next(asked for asked in begun.fake.asked if "envoy_cluster" in asked)
    assert counters.endswith("model=~`digits`}[45s]")


@pytest.mark.parametrize(
    "said",
    [
        Said(500, "internal error"),
        Said(502, "<html>bad gateway</html>"),
        Said(200, "<html>please log in</html>"),
        Said(200, ""),
        Said(200, '{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"val'),
        Said(200, "[]"),
        Said(200, '{"status":"success"}'),
        Said(200, '{"status":"success","data":{"resultType":"string","result":[1,"a"]}}'),
        Said(200, '{"status":"success","data":{"resultType":"scalar","result":[]}}'),
        Said(200, '{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1"]]}]}}'),
        Said(200, '{"status":"success","data":{"resultType":"scalar","result":[1,"a"]}}'),
        Said(503, '{"status":"error","errorType":"unavailable","error":"Service Unavailable"}'),
        Said(422, '{"status":"error","errorType":"execution","error":"too many samples"}'),
        Said(200, '{"status":"success","data":{"resultType":"scalar","result":[1,"1"]},"warnings":["a store"]}'),
    ],
    ids=lambda said: f"{said.status} {said.body[:24]}",
)  # fmt: skip
def test_an_answer_that_is_none_is_no_evidence_and_says_so(begun: Watching, said: Said) -> None:
    begun.scraped(190, 20, 29)
    begun.fake.saying = said
    found = gap_of(begun)
    assert found.kind is GapKind.UNAVAILABLE
    assert begun.fake.url in found.reason
    begun.fake.saying = None
    assert gap_of(begun).kind is GapKind.FIRST_LOOK, "what happened meanwhile is dropped, not guessed"


@pytest.mark.parametrize("said", [Said(hang=True), Said(body="x" * 10_000, drip=True)], ids=["hangs", "drips"])
def test_an_answer_that_does_not_come_in_time_is_none(begun: Watching, said: Said) -> None:
    begun.fake.saying = said
    impatient = PrometheusCounters(begun.fake.url, seconds=0.3)

    async def ask() -> None:
        try:
            await impatient.look([LIVE])
        finally:
            await impatient.close()

    with pytest.raises(Unavailable, match=r"did not answer within 0\.3 s|does not answer"):
        asyncio.run(ask())


def test_an_answer_beyond_all_measure_is_not_read_to_its_end(begun: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "ANSWER_BYTES", 1 << 20)
    begun.fake.saying = Said(body="x" * (2 << 20))
    assert "more than 1 MiB" in gap_of(begun).reason


NAMELESS = (
    '{"metric":{},"values":[[1,"1"]]}',
    '{"metric":{"__name__":"up"},"values":[]}',
    '{"metric":{"__name__":"up"}}',
)


@pytest.mark.parametrize("series", NAMELESS)
def test_a_series_without_name_or_samples_is_no_answer(series: str) -> None:
    with pytest.raises((KeyError, ValueError)):
        lines([json.loads(series)])


def test_one_that_is_down_is_no_evidence(begun: Watching) -> None:
    nobody = PrometheusCounters("http://teal:secret@127.0.0.1:9")

    async def ask() -> None:
        try:
            await nobody.look([LIVE])
        finally:
            await nobody.close()

    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9 does not answer") as raised:
        asyncio.run(ask())
    assert "secret" not in raised.value.message


def test_name_and_password_of_the_url_are_used(begun: Watching) -> None:
    known = PrometheusCounters(begun.fake.url.replace("http://", "http://teal:secret@"))

    async def ask() -> None:
        await known.look([LIVE])
        await known.close()

    asyncio.run(ask())
    assert begun.fake.authorization is not None
    assert begun.fake.authorization.startswith("Basic ")


def test_a_prometheus_that_knows_nothing_of_the_model_is_a_gap_and_no_zero(watching: Watching) -> None:
    watching.fake.now += 5
    assert gap_of(watching).kind is GapKind.MISSING


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-3", "1e308", "0.5"])
@pytest.mark.parametrize("arm", ["live", "candidate"])
def test_a_value_that_is_no_count_discards_the_stretch_for_both_versions(begun: Watching, value: str, arm: str) -> None:
    begun.scraped(**({"live": 190, "candidate": 20} | {arm: value}), runs=29)
    assert gap_of(begun).kind is GapKind.NO_COUNT
    begun.scraped(200, 30, 39)
    assert isinstance(begun.told(), Gap)
    begun.scraped(210, 40, 49)
    assert stretch_of(begun).counted.errors == Block(Arm(10, 0), Arm(10, 0))


def test_what_was_scraped_too_long_ago_is_no_evidence_about_now(begun: Watching) -> None:
    begun.fake.now += 31
    found = gap_of(begun)
    assert (found.kind, "31 s" in found.reason) == (GapKind.STALE, True)


def test_an_envoy_that_cannot_be_scraped_is_a_gap_for_both_versions_however_long(begun: Watching) -> None:
    for _ in range(30):
        begun.fake.now += 5
        begun.fake.scrape("teal-envoy", "envoy", None)
        found = gap_of(begun)
        assert (found.kind, "teal-envoy/envoy" in found.reason) == (GapKind.MISSING, True)


@pytest.mark.parametrize("version", [1, 2])
def test_a_worker_that_cannot_be_scraped_takes_engine_runs_of_both_versions_out(begun: Watching, version: int) -> None:
    instance = f"digits-{version}-{COLORS[version]}-0"
    for times in range(1, 30):
        begun.fake.now += 5
        begun.fake.scrape("teal-envoy", "envoy", envoy(100 + 90 * times, 10 + 10 * times))
        for each in (1, 2):
            name = f"digits-{each}-{COLORS[each]}-0"
            begun.fake.scrape("teal-worker", name, None if name == instance else worker(each, 20 + times))
        found = stretch_of(begun).counted
        assert (found.errors, found.batches) == (Block(Arm(90, 0), Arm(10, 0)), NOTHING)
        assert instance in found.partial


def test_a_worker_that_is_no_target_any_more_is_missed_by_nobody(begun: Watching) -> None:
    begun.fake.remove("teal-worker", "digits-2-green-0")
    begun.fake.now += 5
    begun.fake.scrape("teal-envoy", "envoy", envoy(190, 20))
    begun.fake.scrape("teal-worker", "digits-1-blue-0", worker(1, 29))
    begun.fake.scrape("teal-worker", "digits-2-green-1", worker(2, 5000))
    assert "both ends" in stretch_of(begun).counted.partial
    begun.fake.now += 5
    begun.fake.scrape("teal-envoy", "envoy", envoy(280, 30))
    begun.fake.scrape("teal-worker", "digits-1-blue-0", worker(1, 39))
    begun.fake.scrape("teal-worker", "digits-2-green-1", worker(2, 5007))
    found = stretch_of(begun).counted
    assert (found.batches, found.partial) == (Block(Arm(10, 0), Arm(7, 0)), "")


def test_a_restarted_worker_counts_what_it_did_since_even_when_that_is_more(begun: Watching) -> None:
    begun.fake.now += 5
    begun.fake.scrape("teal-envoy", "envoy", envoy(190, 20))
    begun.fake.scrape("teal-worker", "digits-1-blue-0", worker(1, 29))
    begun.fake.scrape("teal-worker", "digits-2-green-0", worker(2, 35, began=2000.0))
    assert stretch_of(begun).counted.batches == Block(Arm(9, 0), Arm(35, 0))


def test_a_restarted_envoy_counts_what_it_did_since_and_never_less_than_nothing(begun: Watching) -> None:
    begun.scraped(40, 4, 29, uptime=2.0)
    found = stretch_of(begun)
    assert found.counted.errors == Block(Arm(40, 0), Arm(4, 0))
    assert found.broken


def test_a_prometheus_that_shows_only_some_of_the_series_counts_no_others_from_zero(watching: Watching) -> None:
    watching.fake.now += 5
    watching.fake.scrape("teal-worker", "digits-1-blue-0", worker(1, 20))
    watching.fake.scrape("teal-worker", "digits-2-green-0", worker(2, 20))
    assert gap_of(watching).kind is GapKind.MISSING
    watching.scraped(10_000, 900, 29)
    assert gap_of(watching).kind is GapKind.FIRST_LOOK
    watching.scraped(10_010, 901, 39)
    assert stretch_of(watching).counted.errors == Block(Arm(10, 0), Arm(1, 0))


def test_a_scrape_that_comes_in_between_two_questions_is_taken_with_the_next_look(begun: Watching) -> None:
    begun.scraped(190, 20, 29)
    begun.fake.now += 5
    begun.fake.racing = envoy(280, 30)
    assert stretch_of(begun).counted.errors == Block(Arm(90, 0), Arm(10, 0))
    assert stretch_of(begun).counted.errors == Block(Arm(90, 0), Arm(10, 0))


def test_two_targets_of_one_name_are_told_apart_by_nobody(begun: Watching) -> None:
    begun.fake.scrape("teal-envoy", "envoy", {**envoy(1, 1), 'up{replica="b"}': 1})
    begun.scraped(190, 20, 29)
    assert "several targets called teal-envoy/envoy" in gap_of(begun).reason


def test_workers_scraped_at_times_of_their_own_are_paired_as_near_as_they_come(watching: Watching) -> None:
    taken = []
    for tick in range(40):
        watching.fake.now += 1
        if tick % 5 == 0:
            watching.fake.scrape("teal-envoy", "envoy", envoy(tick, tick))
            watching.fake.scrape("teal-worker", "digits-1-blue-0", worker(1, tick))
        if tick % 5 == 3:
            watching.fake.scrape("teal-worker", "digits-2-green-0", worker(2, tick))
        if tick > 8:
            samples = watching.look().samples
            both = [
                [t.at for s, t in samples[v].items() if s.kind is Kind.WORKER and isinstance(t, Told)]
                for v in (LIVE, CANDIDATE)
            ]
            taken.append(abs(both[0][0] - both[1][0]))
    assert max(taken) == 2


def test_mirrored_copies_are_the_candidates_part_while_it_only_mirrors(watching: Watching) -> None:
    def page(copies: int) -> Page:
        return {**envoy(100 + copies, 0), f"envoy_cluster_upstream_rq_completed{who(2, 'mirror')}": copies}

    for copies in (10, 60):
        watching.fake.now += 5
        watching.fake.scrape("teal-envoy", "envoy", page(copies))
        said = watching.told(mirrored=True)
    assert isinstance(said, Stretch)
    assert said.counted.errors == Block(Arm(50, 0), Arm(50, 0))


@pytest.mark.parametrize(
    "url", ["prometheus:9090", "ftp://a", "http://", "http://a?b=c", "http://a:port", "http://a:0", "http://[::1"]
)
def test_what_cannot_be_its_url_is_refused_before_anything_starts(url: str) -> None:
    with pytest.raises(InvalidInput, match="--prometheus"):
        prometheus_url(url)


def test_a_refused_url_is_shown_without_its_password() -> None:
    with pytest.raises(InvalidInput) as raised:
        prometheus_url("ftp://teal:secret@a")
    assert "secret" not in raised.value.message


@pytest.mark.parametrize(("url", "means"), [("", None), (" http://a:9090/ ", "http://a:9090"), ("https://a/p", "https://a/p")])  # fmt: skip  # noqa: E501
def test_its_url_is_taken_as_people_write_it(url: str, means: str | None) -> None:
    assert prometheus_url(url) == means
