"""Stands in for `serving.prepare`: speaks contracts.prepare and makes real packages, without TensorFlow.

The source is a file whose first word says what happens; the rest goes into the package, so that equal sources make
equal packages.
"""

import argparse
import errno
import json
import os
import signal
import sys
import time
from pathlib import Path

from contracts.package import (
    MANIFEST,
    Lineage,
    Manifest,
    PlanReport,
    canonical_json,
    digest_of,
    lineage_from_json,
    list_files,
    manifest_to_json,
)


def say(**message: object) -> None:
    print(json.dumps(message), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--samples")
    parser.add_argument("--lineage", type=Path)
    given = parser.parse_args()
    mood, _, content = given.source.read_text().partition(" ")
    say(stage="load", detail="a model")
    print("something a model prints", flush=True)
    if mood == "bad":
        say(error={"code": "invalid_input", "message": f"{given.source}: no signature with an input named x"})
        return 1
    if mood == "dies":
        print("segmentation fault, or so", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if mood == "env":  # the package holds what a model could read
        content = json.dumps(dict(os.environ))
    if mood == "hangs":
        time.sleep(600)
    if mood == "full":
        say(error={"code": "internal", "message": os.strerror(errno.ENOSPC)})
        return 1
    digest = write_package(given.output, content, given.lineage)
    if mood == "lies":
        (given.output / "plans/litert/model.tflite").write_text("other bytes")
    if mood == "links":
        (given.output / "plans/link").symlink_to("/etc/passwd")
    say(result={"digest": digest, "plan": "litert"})
    return 0


def write_package(output: Path, content: str, lineage: Path | None = None) -> str:
    """Write a valid package that no engine could run; return its digest."""
    model = output / "plans/litert/model.tflite"
    model.parent.mkdir(parents=True)
    model.write_text(content)
    manifest = Manifest(
        source_kind="saved_model",
        source_digest="0" * 64,
        plan="litert",
        plans=(PlanReport("litert", "chosen", "fastest", "plans/litert", seconds_per_run={"1": 0.004, "8": 0.016}),),
        signatures=(),
        buckets=(1, 8),
        warmup=None,
        files=list_files(output),
        lineage=Lineage() if lineage is None else lineage_from_json(json.loads(lineage.read_text())),
        created_at="2026-01-01T00:00:00Z",
        prepared_with={},
    )
    (output / MANIFEST).write_bytes(canonical_json(manifest_to_json(manifest)))
    return digest_of(manifest)


if __name__ == "__main__":
    sys.exit(main())
