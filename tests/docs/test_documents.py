"""Documents that cannot drift: generated pages equal what the code says, and every command shown exists."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from contracts.limits import Limits
from contracts.metrics import CONTROL_METRICS, ROLLOUT_METRICS, WORKER_METRICS
from deploy.cli.main import app
from deploy.cli.reference import PAGES
from deploy.http.app import application
from deploy.http.facts import Parts
from deploy.rollout.deployment import ON_TRIAL, State
from deploy.rollout.plan import Guardrail, Plan, Step, Strategy, Watched
from deploy.rollout.plan_file import parse_plan

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROLLOUTS = (ROOT / "docs" / "rollouts.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:teal|make) [^`]+)`")


def shown(program: str, page: str = README) -> Iterator[list[str]]:
    """The words of every line of a page that runs `program`, in code blocks and in running text."""
    lines = [line for block in BLOCK.findall(page) for line in block.replace("\\\n", " ").splitlines()]
    for text in [*lines, *INLINE.findall(page)]:
        words = shlex.split(text.partition(" > ")[0], comments=True)
        if words and words[0] == program:
            yield [word for word in words[1:] if word != "&"]


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_generated_page_is_what_the_code_says(page: str) -> None:
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert written == PAGES[page](), f"docs/{page} is out of date: run make docs"


def test_every_limit_stands_in_its_page() -> None:
    page = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    for name in Limits.__dataclass_fields__:
        assert f"`{name}`" in page


def test_every_metric_stands_in_its_page() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for metric in (*WORKER_METRICS, *CONTROL_METRICS, *ROLLOUT_METRICS):
        assert f"`{metric.name}`" in page


@pytest.mark.parametrize("words", [*shown("teal"), *shown("teal", ROLLOUTS)], ids=" ".join)
def test_every_command_of_the_readme_and_of_rollouts_parses(words: list[str]) -> None:
    command, rest = get_command(app), words
    while isinstance(command, TyperGroup) and rest:
        name, *rest = rest
        assert name in command.commands, f"a page shows teal {name}, which does not exist"
        command = command.commands[name]
    # Parses names, flags and values as the shell would hand them over, and runs nothing. `teal pause` alone is a
    # mention, not a line to type.
    if rest:
        command.make_context(words[0], list(rest))


def test_every_field_of_a_plan_and_every_state_of_a_rollout_stands_in_its_page() -> None:
    named = {f.name for kind in (Plan, Step, Guardrail) for f in fields(kind)}
    under_way = ON_TRIAL | {State.WARMING, State.PROMOTED, State.ROLLED_BACK}
    for word in [*named, *Watched, *Strategy, *under_way]:
        assert f"`{word}`" in ROLLOUTS, f"docs/rollouts.md does not explain {word}"


def test_the_plan_that_the_rollouts_page_shows_is_one() -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", ROLLOUTS, re.MULTILINE | re.DOTALL)
    assert parse_plan(example).deadline == 3600.0


def test_the_readme_shows_what_a_newcomer_types() -> None:
    seen = {words[0] for words in shown("teal")}
    assert {"up", "register", "deploy", "weight", "promote", "rollback", "status", "history", "predict"} <= seen


@pytest.mark.parametrize("words", list(shown("make")), ids=" ".join)
def test_every_make_target_of_the_readme_exists(words: list[str]) -> None:
    assert re.search(rf"^{words[0]}:", MAKEFILE, re.MULTILINE)


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_file_that_the_architecture_names_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:contracts|serving|router|deploy)/[\w/]+\.py)`", text)
    assert len(named) > 30
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_call_of_the_operating_api_stands_in_the_architecture_and_no_other() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    told = set()
    for cell in re.findall(r"^\| (`(?:GET|POST|PUT|DELETE) /.*?) \|", text, re.MULTILINE):
        for mention in cell.split(", "):  # `POST /a/b` `c` means /a/b and /a/c
            first, *others = re.findall(r"`([^`]+)`", mention)
            method, path = first.partition("?")[0].split(" ")
            told |= {(method, path)} | {(method, f"{path.rpartition('/')[0]}/{other}") for other in others}
    spec = application(cast(Parts, SimpleNamespace(hosts=()))).openapi()
    assert told == {
        (method.upper(), re.sub(r"{version}$", "{v}", path).replace("{worker_id}", "{id}"))
        for path, methods in spec["paths"].items()
        for method in methods
    }


def test_the_readme_stays_short() -> None:
    assert len(README.splitlines()) < 200


def test_ci_calls_make_test_and_nothing_else() -> None:
    commands = [
        line
        for line in (ROOT / ".ci" / "run").read_text().splitlines()
        if line and not line.startswith("#") and not line.startswith(("set ", "cd "))
    ]
    assert commands == ["exec make test"]


def test_no_machine_or_registry_stands_in_the_lock_files() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert not re.search(r"(^|\s)/\w", text)
        assert text.count("==") <= text.count("--hash=sha256:")
