"""Where the demo's two versions come from: trained in a process of their own, registered like anybody's, and found
again when the demo runs a second time on the same home."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contracts.errors import Internal, NotFound
from contracts.package import Manifest
from deploy import answers
from deploy.cli import render
from deploy.cli.local import LocalHome
from deploy.demo.story import Story
from deploy.home import write_atomically
from deploy.registry.asked import Asked

MODEL = "digits"
TRAINING = "training.json"  # what training reported at its end
REGISTERED = "versions.json"  # which versions came of it


@dataclass(frozen=True)
class Image:
    """One test image as the model takes it, and the digit a person saw in it."""

    row: Sequence[float]
    digit: int


@dataclass(frozen=True)
class Version:
    """A registered version of the demo."""

    number: int
    digest: str


@dataclass(frozen=True)
class Digits:
    """What the story needs: two versions of one model, a third that is the second one badly exported, and images that
    none has learned from."""

    dense: Version
    conv: Version
    careless: Version
    images: Sequence[Image]


class TrainingFailed(Internal):
    """The training process ended without a result; the sentence holds its last words."""


def prepare(home: Path, story: Story) -> Digits:
    """The registered versions: those of an earlier demo on this home, else freshly trained ones."""
    directory = home.absolute() / "demo"  # written into training.json: a later demo may run from elsewhere
    with LocalHome(home) as registry:
        known = _known(registry, directory)
        if known is not None:
            story.chapter("Find the models trained earlier")
            numbers = (known.dense.number, known.conv.number, known.careless.number)
            story.say(f"versions {numbers[0]}, {numbers[1]} and {numbers[2]} of {MODEL} are registered already")
            return known
        directory.mkdir(exist_ok=True)
        story.chapter("Train two models on real handwritten digits")
        result = _train(directory, story)
        story.chapter("Register them: check against TensorFlow, time every plan, keep the fastest correct one")
        versions = [_register(registry, facts, story) for facts in result["versions"]]
    write_atomically(directory / TRAINING, json.dumps(result).encode())
    write_atomically(directory / REGISTERED, json.dumps([asdict(v) for v in versions]).encode())
    return Digits(versions[0], versions[1], versions[2], load_images(Path(result["test"])))


def load_images(path: Path) -> tuple[Image, ...]:
    """The test images that training left: `images` [rows, 64] float32 and `labels` [rows]."""
    with np.load(path) as saved:
        return tuple(
            Image([float(pixel) for pixel in row], int(digit))
            for row, digit in zip(saved["images"], saved["labels"], strict=True)
        )


def _known(registry: LocalHome, directory: Path) -> Digits | None:
    """What an earlier demo left, if all of it is still there."""
    try:
        result = json.loads((directory / TRAINING).read_bytes())
        dense, conv, careless = (Version(**v) for v in json.loads((directory / REGISTERED).read_bytes()))
        for version in (dense, conv, careless):
            if registry.version(MODEL, version.number)["digest"] != version.digest:
                return None
        return Digits(dense, conv, careless, load_images(Path(result["test"])))
    except (OSError, ValueError, TypeError, KeyError, NotFound):
        return None  # something was removed or is from another release: make it again


def _train(directory: Path, story: Story) -> dict[str, Any]:
    """Run the training script and tell what it reports. Raises TrainingFailed with its last words."""
    command = [sys.executable, "-m", "deploy.demo.train", "--output", str(directory)]
    log = directory / "training.log"
    with log.open("wb") as diary, story.stages("training") as tell:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=diary)
        try:
            result = _listen(process, tell)
            code = process.wait()
        finally:
            process.kill()  # after Ctrl-C; a no-op when it ended
            process.wait()
    if code != 0 or result is None:
        words = log.read_text(errors="replace").strip().splitlines()
        raise TrainingFailed(f"training ended with code {code}: {words[-1] if words else 'no words'}; its log is {log}")
    for facts in result["versions"]:
        if facts["accuracy"] is not None:
            story.say(f"{facts['name']}: {100 * facts['accuracy']:.1f} % of the test images right")
    story.say("careless: the same network as conv, exported once more by somebody in a hurry; nobody tested it")
    return result


def _listen(process: "subprocess.Popen[bytes]", tell: Callable[[str, str], None]) -> dict[str, Any] | None:
    result: dict[str, Any] | None = None
    told = ""
    for line in process.stdout or ():
        message = json.loads(line)
        if "result" in message:
            result = message["result"]
        elif render.console().is_terminal or message["stage"] != told or message["stage"] != "train":
            # Every epoch on a terminal, where the line changes; elsewhere the first one is enough.
            tell(message["stage"], message.get("detail", ""))
            told = message["stage"]
    return result


def _register(registry: LocalHome, facts: dict[str, Any], story: Story) -> Version:
    with story.stages(f"registering {facts['name']}") as tell:
        asked = Asked(facts["model"], Path(facts["samples"]), Path(facts["lineage"]))
        made, manifest = registry.register(MODEL, asked, progress=tell)
    story.say(_registered(facts["name"], made, manifest))
    return Version(made["version"], made["digest"])


def _registered(name: str, made: answers.Version, manifest: Manifest) -> str:
    times = {plan.name: plan.seconds_per_run.get("1") for plan in manifest.plans}
    single = ", ".join(f"{plan} {render.duration(seconds)}" for plan, seconds in times.items() if seconds is not None)
    return f"version {made['version']} ({name}): plan {made['plan']}; one image takes: {single}"
