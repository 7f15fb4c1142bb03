"""The two steps from a source to a package, each a process: fetch has the credentials and never loads a model, prepare
loads the model, which is a program somebody else wrote, and never sees a credential.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.errors import Internal
from contracts.fetch import FetchSpec
from contracts.package import Lineage, lineage_from_json
from contracts.prepare import PrepareSpec
from deploy.fleet.environment import DEFAULTS, PASSED_ON
from deploy.registry.step import Progress, Step, StepLimits, run

_NETWORK_SECONDS = 4 * 3600.0  # of a fetch: 64 GiB over a slow line


@dataclass(frozen=True)
class Prepared:
    """The package's digest, the plan that serves, and the place the model was taken from, None when that is the source
    as it was given."""

    digest: str
    plan: str
    source: str | None = None


@dataclass(frozen=True)
class Fetched:
    """What to prepare, the address it was taken from, and what is known there about its training."""

    path: Path
    source: str
    lineage: Lineage


@dataclass(frozen=True)
class Steps:
    """How the steps are started. Tests start others in their place."""

    limits: StepLimits = field(default_factory=StepLimits)
    prepare_argv: Callable[[PrepareSpec], Sequence[str]] = PrepareSpec.argv
    fetch_argv: Callable[[FetchSpec], Sequence[str]] = FetchSpec.argv

    def fetch(self, spec: FetchSpec, *, inherit: int, log_path: Path, progress: Progress) -> Fetched:
        """Bring the source to `spec.output`. Raises what fetch reported; see deploy.registry.step."""
        # Its own defaults go last: it must not pick up a folder called serving from where the command was typed.
        environment = {**os.environ, **DEFAULTS}
        limits = StepLimits(max(self.limits.seconds, _NETWORK_SECONDS), self.limits.file_bytes, self.limits.nice)
        step = Step("fetching the model", self.fetch_argv(spec), environment, inherit, log_path, limits)
        result = _with(run(step, progress), ("path", "source"), step)
        return Fetched(Path(result["path"]), str(result["source"]), lineage_from_json(result.get("lineage") or {}))

    def prepare(self, spec: PrepareSpec, *, inherit: int, log_path: Path, progress: Progress) -> Prepared:
        """Make a package in `spec.output`. Raises what prepare reported; see deploy.registry.step."""
        environment = {**DEFAULTS, **{name: os.environ[name] for name in PASSED_ON if name in os.environ}}  # no secrets
        step = Step("preparing the model", self.prepare_argv(spec), environment, inherit, log_path, self.limits)
        result = _with(run(step, progress), ("digest", "plan"), step)
        return Prepared(str(result["digest"]), str(result["plan"]), result.get("source") or None)


def _with(result: Mapping[str, Any], keys: Sequence[str], step: Step) -> Mapping[str, Any]:
    if missing := [key for key in keys if not isinstance(result.get(key), str)]:
        raise Internal(f"{step.what} ended without {missing[0]}; nothing was registered. The log is {step.log_path}")
    return result
