"""How the control plane asks `serving` to turn a model source into a package.

`python -m serving.prepare` runs in a process of its own because a model is a program. It writes the package into an
empty directory, prints progress as JSON lines on standard output (`{"stage": "...", "detail": "..."}`), and ends with
exactly one line `{"result": {"digest": "...", "plan": "...", "source": "..."}}` or
`{"error": {"code": "...", "message": "..."}}`, where source is the place the model was taken from and code is one of
`contracts.errors`. Exit code 0 with a result, 1 with an error; anything else is a crash.
"""

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class PrepareSpec:
    """source   SavedModel directory, .keras or .tflite file
    output   empty directory for the package
    samples  optional .npz or JSON file with sample inputs
    lineage  optional JSON file; see contracts.package.Lineage
    preprocessing       optional JSON file; see contracts.preprocessing.Preprocessing
    reduced_precision   also try plans that compute less precisely, and let one serve when it is close enough"""

    source: str
    output: str
    samples: str | None = None
    lineage: str | None = None
    reduced_precision: bool = False
    preprocessing: str | None = None

    def argv(self) -> list[str]:
        argv = [sys.executable, "-m", "serving.prepare", "--source", self.source, "--output", self.output]
        if self.samples is not None:
            argv += ["--samples", self.samples]
        if self.lineage is not None:
            argv += ["--lineage", self.lineage]
        if self.preprocessing is not None:
            argv += ["--preprocessing", self.preprocessing]
        if self.reduced_precision:
            argv.append("--allow-reduced-precision")
        return argv
