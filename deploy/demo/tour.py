"""`teal demo`: from nothing to live traffic on a digit classifier, moved by hand, then by evidence: a good version is
promoted and a badly exported one rolled back.

`tour` is the table of contents; every chapter is a function below it, and none believes what it can check: no image may
go unanswered but those that the bad version failed on.
"""

import json
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import Conflict, Internal
from deploy.cli import failures, render, words
from deploy.cli.options import DEFAULT_HOME
from deploy.client import Client
from deploy.demo import models, rollouts
from deploy.demo.gateway import GatewayProcess, check_port_free
from deploy.demo.models import MODEL, Digits, Version
from deploy.demo.rollouts import Ended
from deploy.demo.story import Story
from deploy.demo.tally import Tally, is_plausible, versions
from deploy.demo.traffic import Traffic
from deploy.home import Home
from deploy.predictions import Predictions
from deploy.settings import from_environment

STEPS = (10.0, 50.0)  # percent
IMAGES_AT_FIRST = 450
IMAGES_PER_STEP = 600  # at the demo's rate two seconds
IMAGES_AFTER_MOVE = 300
MOST_FAILED = 100  # images that the bad version may fail on before it is found out; a handful is usual


@dataclass(frozen=True)
class Place:
    """Where the demo runs."""

    home: Path
    port: int
    admin_port: int

    def options(self) -> str:
        """What to add to a command so that it finds this gateway."""
        return "" if self.home == DEFAULT_HOME else f" --home {self.home}"


class DemoFailed(Internal):
    """Something the demo promises did not come true."""


def run(home: Path, port: int, admin_port: int, *, leave: bool) -> int:
    """Run the demo; return its exit code. Ctrl-C and SIGTERM drain and stop what was started."""
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(Place(home, port, admin_port), leave)
    finally:
        signal.signal(signal.SIGTERM, former)


def _run(place: Place, leave: bool) -> int:
    story = Story()
    log = _check_free(place)
    digits = models.prepare(place.home, story)
    story.chapter("Start the gateway")
    with GatewayProcess(place.home, place.port, place.admin_port, log) as gateway:
        story.say(f"predictions on {gateway.url}, operating on {gateway.admin_url}")
        try:
            with Client(gateway.admin_url, actor="teal demo") as operator:
                taken_over = tour(story, operator, gateway.url, digits, rollouts.put_plan(place.home))
        except KeyboardInterrupt:
            story.say("interrupted: draining and stopping the gateway")
            raise
        try:
            _how_it_stands(story, gateway.admin_url)
            line = _line_to_paste(story, gateway.url, digits)
            if leave:
                return _finish(story, gateway)
            _invite(story, place, line, digits, taken_over)
            code = gateway.wait()
        except KeyboardInterrupt:
            render.line()
            return _finish(story, gateway)
    raise DemoFailed(f"the gateway ended by itself with code {code}; its log is {log}")


def tour(story: Story, operator: Client, url: str, digits: Digits, plan_file: Path) -> int | None:
    """Deploy, move by hand, and let evidence decide twice, with images flowing all the while. Returns the version that
    was live before the demo came, if there was one. Raises DemoFailed when a promise breaks."""
    dense, conv, careless = digits.dense, digits.conv, digits.careless
    plan = rollouts.read_plan(plan_file)
    taken_over = _take_over(story, operator)
    _deploy_first(story, operator, dense)
    with Traffic(url, MODEL, digits.images) as traffic:
        _watch_first(story, traffic, dense)
        _deploy_candidate(story, operator, conv)
        _move_by_hand(story, operator, traffic, dense, conv)
        _roll_back(story, operator, traffic, dense)
        by_plan = f"teal deploy {MODEL} {{}} --plan {plan_file}"
        story.chapter(f"Let evidence move it: {by_plan.format(conv.number)}")
        rollouts.explain(story, plan, conv, dense)
        _promoted(story, traffic, rollouts.roll_out(story, operator, traffic, plan, candidate=conv, live=dense), conv)
        story.chapter(f"And a bad one, in the same way: {by_plan.format(careless.number)}")
        story.say("the same network, exported once more by somebody in a hurry, with other preprocessing:")
        story.say("one image in twelve makes it fail. Nobody has noticed yet")
        ended = rollouts.roll_out(story, operator, traffic, plan, candidate=careless, live=conv)
        failed = _rolled_back(story, traffic, ended, careless, conv)
    everything = Tally(traffic.answers())
    others = len(everything.failures) - failed
    _must(others == 0, f"{others} images were not answered while no bad version was tried: {everything.failures[:1]}")
    story.say(f"{len(everything):,} images asked in all; 0 failed but those {failed}")
    return taken_over


def _check_free(place: Place) -> Path:
    """Find out what would stop us before training, which takes longest. Returns where the gateway will log."""
    home = Home(place.home)
    running = home.gateway()
    if running is not None:
        raise Conflict(
            f"a gateway already runs on {place.home} (pid {running.pid}); stop it first, or give the demo a home of "
            "its own: teal demo --home DIR --port P --admin-port Q"
        )
    check_port_free(from_environment(os.environ).host, place.port, "--port")
    check_port_free("127.0.0.1", place.admin_port, "--admin-port")
    return home.logs / "demo-gateway.log"


def _take_over(story: Story, operator: Client) -> int | None:
    """A home that served digits before starts the story from the beginning."""
    status = operator.status(MODEL)
    if status["live"] is None and status["candidate"] is None:
        return None
    before = status["live"]
    operator.drain(MODEL)
    if before is None:
        return None
    story.say(f"version {before['version']} of {MODEL} was live on this home; it steps aside for the demo")
    return before["version"]


def _deploy_first(story: Story, operator: Client, dense: Version) -> None:
    story.chapter(f"Deploy version {dense.number}, the dense network")
    status = operator.deploy(MODEL, dense.number, reason="demo: the first version goes live by itself")
    live = status["live"]
    _must(live is not None and live["version"] == dense.number, f"version {dense.number} did not become live: {status}")
    story.say(words.reason(status))


def _watch_first(story: Story, traffic: Traffic, dense: Version) -> None:
    with story.counting("test images", IMAGES_AT_FIRST) as progress:
        seen = Tally(traffic.collect(IMAGES_AT_FIRST, progress))
    _must(not seen.failures, f"{len(seen.failures)} of the first images were not answered: {seen.failures[:1]}")
    story.say(
        f"{len(seen)} test images it has never seen: {seen.accuracy(dense.number) or 0:.1f} % right, "
        f"median {render.duration(seen.latency(0.5))}, p99 {render.duration(seen.latency(0.99))}, 0 failed"
    )


def _deploy_candidate(story: Story, operator: Client, conv: Version) -> None:
    story.chapter(f"Deploy version {conv.number}, the convolutional network, beside it")
    status = operator.deploy(MODEL, conv.number, strategy="manual", reason="demo: another network as candidate")
    candidate = status["candidate"]
    _must(
        candidate is not None and candidate["version"] == conv.number,
        f"version {conv.number} is no candidate: {status}",
    )
    story.say(words.reason(status))


def _move_by_hand(story: Story, operator: Client, traffic: Traffic, dense: Version, conv: Version) -> None:
    story.chapter(f"Move traffic to version {conv.number} by hand: teal weight {MODEL} PERCENT")
    story.shares_heading(dense.number, conv.number)
    for percent in STEPS:
        operator.weight(MODEL, percent, reason=f"demo: {percent:g} %")
        with story.counting(f"at {percent:g} %", IMAGES_PER_STEP) as progress:
            step = Tally(traffic.collect(IMAGES_PER_STEP, progress))
        story.shares(percent, step, Tally(traffic.answers()), dense.number, conv.number)
        _must(not step.failures, f"at {percent:g} % {len(step.failures)} images failed: {step.failures[:1]}")
        _must(
            is_plausible(step.of(conv.number), len(step), percent),
            f"asked for {percent:g} %, observed {step.share(conv.number)} %: the split is not what was set",
        )


def _roll_back(story: Story, operator: Client, traffic: Traffic, dense: Version) -> None:
    story.chapter(f"And back, because going back must be instant: teal rollback {MODEL}")
    started = time.perf_counter()
    status = operator.rollback(MODEL, reason="demo: to show that it is instant")
    seconds = time.perf_counter() - started
    story.say(words.reason(status))
    story.say(f"from the command to Envoy's acknowledgement: {render.duration(seconds)}")
    _only(story, traffic, dense, "the rollback")


def _promoted(story: Story, traffic: Traffic, ended: Ended, conv: Version) -> None:
    _must(ended.state == "promoted", f"version {conv.number} is good and was not promoted: {ended.reason}")
    story.say(f"version {conv.number} is live: {ended.reason}")
    _must(not ended.seen.failures, f"{len(ended.seen.failures)} images failed meanwhile: {ended.seen.failures[:1]}")
    story.say(f"decided after {ended.seconds:.0f} s; {len(ended.seen):,} images meanwhile, 0 failed")
    _only(story, traffic, conv, "the promotion")


def _rolled_back(story: Story, traffic: Traffic, ended: Ended, careless: Version, conv: Version) -> int:
    """Returns how many images the bad version failed on."""
    _must(ended.state == "rolled_back", f"version {careless.number} fails and was not rolled back: {ended.reason}")
    story.say(f"version {conv.number} has all traffic again: {ended.reason}")
    _only(story, traffic, conv, "the rollback")
    failed = len(ended.seen.failures)
    _must(failed <= MOST_FAILED, f"{failed} images failed before version {careless.number} was found out")
    story.say(
        f"found out after {ended.seconds:.0f} s: {failed} of {len(ended.seen):,} images saw an error; "
        f"with all of the traffic it would have been about {len(ended.seen) // 12:,}"
    )
    return failed


def _only(story: Story, traffic: Traffic, expected: Version, after: str) -> None:
    """Every image sent after an acknowledged move must be answered by the version it moved to."""
    with story.counting(f"after {after}", IMAGES_AFTER_MOVE) as progress:
        seen = Tally(traffic.collect(IMAGES_AFTER_MOVE, progress))
    _must(not seen.failures, f"{len(seen.failures)} images failed after {after}: {seen.failures[:1]}")
    strangers = versions(seen.answers) - {expected.number}
    _must(not strangers, f"after {after} version {sorted(strangers)} still answered")
    story.say(f"{len(seen)} images sent after it: all answered by version {expected.number}, 0 failed")


def _how_it_stands(story: Story, admin_url: str) -> None:
    story.chapter(f"How it stands: teal status {MODEL}")
    with Client(admin_url) as gateway:
        for row in words.model_status(gateway.status(MODEL)):
            render.show(row)


def _line_to_paste(story: Story, url: str, digits: Digits) -> str:
    """A `curl` line with a real image, tried before it is shown."""
    image = digits.images[0]
    # Two decimals of each pixel: short enough to paste.
    row = [int(pixel) if pixel in (0.0, 1.0) else round(pixel, 2) for pixel in image.row]
    body = json.dumps({"instances": [row]}, separators=(",", ":"))
    with Predictions(url) as gateway:
        scores = gateway.predict(f"/v1/models/{MODEL}", json.loads(body)).json()["predictions"][0]
    story.chapter("One image by hand")
    story.say(f"a handwritten {image.digit}; the gateway sees a {scores.index(max(scores))}")
    return f"curl -s {url}/v1/models/{MODEL}:predict -d '{body}'"


def _invite(story: Story, place: Place, line: str, digits: Digits, taken_over: int | None) -> None:
    """The gateway stays up: what to do with it."""
    dense, conv, careless = digits.dense, digits.conv, digits.careless
    story.say("ask it yourself:")
    render.line()
    render.line(line)
    story.chapter("Your turn: the gateway stays up until Ctrl-C; in another terminal")
    teal = _command()
    rows = [
        (f"{teal} status --watch{place.options()}", "live, candidate, weights, and why"),
        (f"{teal} deploy {MODEL} {dense.number} --strategy manual{place.options()}", "a candidate, moved by hand"),
        (f"{teal} history {MODEL}{place.options()}", "who did what, when and why"),
        (f"{teal} audit verify{place.options()}", "replay what evidence decided"),
        (f"{teal} models {MODEL}{place.options()}", "the versions, how they were made and measured"),
    ]
    if taken_over is not None and taken_over not in (dense.number, conv.number, careless.number):
        command = f"{teal} deploy {MODEL} {taken_over} --strategy direct{place.options()}"
        rows.append((command, "what was live before the demo"))
    width = max(len(command) for command, _ in rows)
    for command, meaning in rows:
        story.say(f"{command.ljust(width)}  {meaning}")


def _finish(story: Story, gateway: GatewayProcess) -> int:
    story.say("draining and stopping the gateway")
    code = gateway.stop()
    if code != 0:
        raise DemoFailed(f"the gateway stopped with code {code} instead of 0; its log is {gateway.log}")
    story.say("stopped; nothing is left running")
    return failures.OK


def _command() -> str:
    """How to type `teal` here: by name when it is on the path, else by the file that runs now."""
    if shutil.which("teal") is not None:
        return "teal"
    script = Path(sys.argv[0])
    return str(script) if script.name == "teal" else f"{sys.executable} -m deploy.cli.main"


def _must(true: bool, sentence: str) -> None:
    if not true:
        raise DemoFailed(f"the demo broke a promise: {sentence}")
