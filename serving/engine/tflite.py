"""What a .tflite file calls its inputs and outputs: of a signature, or of the graph itself when it has none.

Shared by the engine, which runs them, and by prepare, which describes them: both must use the same names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ai_edge_litert.interpreter import Interpreter

from contracts.signature import DEFAULT_SIGNATURE


@dataclass(frozen=True)
class Entry:
    """One way into the file: its subgraph, and the interpreter's details of each tensor by the name callers use."""

    subgraph: int
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


def entry_names(interpreter: Interpreter) -> tuple[str, ...]:
    """The file's signatures; a file without any has the default one."""
    return tuple(interpreter.get_signature_list()) or (DEFAULT_SIGNATURE,)


def entry(interpreter: Interpreter, name: str) -> Entry:
    """The way in called `name`. Raises ValueError when there is none."""
    if name not in entry_names(interpreter):
        raise ValueError(f"the .tflite file has no signature {name!r}; it has {', '.join(entry_names(interpreter))}")
    if interpreter.get_signature_list():
        runner = interpreter.get_signature_runner(name)
        return Entry(runner._subgraph_index, runner.get_input_details(), runner.get_output_details())
    return Entry(
        0, _named(interpreter.get_input_details(), "input"), _named(interpreter.get_output_details(), "output")
    )


def _named(details: Sequence[Mapping[str, Any]], role: str) -> dict[str, Any]:
    """By the tensors' own names; by role and place where a name is missing, taken, or none that a URL or a JSON key
    could carry without surprise: "serving_default_x:0" and "model/dense/Softmax" are the compiler's words."""
    names = [str(detail["name"]) for detail in details]
    plain = [name if name.isidentifier() and names.count(name) == 1 else f"{role}_{i}" for i, name in enumerate(names)]
    if len(set(plain)) < len(plain):
        plain = [f"{role}_{i}" for i in range(len(names))]
    return dict(zip(plain, details, strict=True))
