"""What packages say before one is deployed: a candidate that callers would notice is refused before it starts."""

import asyncio
import json
from pathlib import Path

from contracts.package import MANIFEST, Lineage, Manifest, PlanReport, manifest_to_json
from contracts.signature import Signature, TensorSpec
from deploy.manifests import Manifests
from deploy.store.records import Version
from tests.deploy.plane import Plane, plane


def package(root: Path, columns: int, name: str = "x") -> None:
    """A package whose model takes rows of so many columns."""
    takes = Signature("serving_default", (spec(name, columns),), (spec("y", 1),), batched=True)
    plan = PlanReport("litert", "chosen", "the fastest", None, None, None, None, {})
    made = Manifest("k", "0", "litert", (plan,), (takes,), (1,), None, (), Lineage(), "now", {})
    root.mkdir(parents=True)
    (root / MANIFEST).write_text(json.dumps(manifest_to_json(made)), encoding="utf-8")


def spec(name: str, columns: int) -> TensorSpec:
    return TensorSpec(name, "float32", (None, columns))


def test_a_candidate_with_another_signature_is_refused_unless_its_callers_are_ready(tmp_path: Path) -> None:
    async def story() -> None:
        async with plane(tmp_path) as p:
            p.versions("m", 3)
            for number, columns in enumerate((2, 3, 2)):
                package(p.home.package(f"{number:064x}"), columns)
            await p.must("m/deploy", version=1)
            answer = await p.post("m/deploy", version=2)
            assert answer.status_code == 409
            assert "input 'x' is float32 [?, 3], where callers send float32 [?, 2]" in answer.json()["error"]
            assert "--override" in answer.json()["error"]
            await begun_and_given_up(p, version=3)
            await begun_and_given_up(p, version=2, override=True)

    async def begun_and_given_up(p: Plane, **body: object) -> None:
        assert (await p.must("m/deploy", **body))["candidate"]["version"] == body["version"]
        await p.must("m/abort")

    asyncio.run(story())


def test_a_candidate_whose_only_input_is_called_differently_starts_with_a_warning(tmp_path: Path) -> None:
    async def story() -> None:
        async with plane(tmp_path) as p:
            p.versions("m", 2)
            package(p.home.package(f"{0:064x}"), 2)
            package(p.home.package(f"{1:064x}"), 2, "input_layer_1")
            await p.must("m/deploy", version=1)
            deployed = await p.must("m/deploy", version=2, strategy="manual")
            assert deployed["warning"].startswith("input 'x' is called 'input_layer_1' by it")

    asyncio.run(story())


def test_a_package_that_is_not_there_hinders_nobody(tmp_path: Path) -> None:
    there = Manifests(lambda digest: tmp_path / digest)
    package(tmp_path / "a", 2)
    assert there.problems("a", "gone") == there.problems("gone", "a") == there.renamed("gone", "a") == ()
    assert there.replicas_of(Version("m", 1, "gone", "litert", "/m", 0.0, None)) == 1
    assert there.replicas_of(Version("m", 1, "a", "litert", "/m", 0.0, None)) >= 1
