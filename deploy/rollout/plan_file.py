"""A plan from a YAML file, with the line of every mistake. What is not written keeps its strategy's default.

strategy: canary
alpha: 0.01
steps:
  - {weight: 1 %, dwell: 2m}
  - {weight: 25 %, dwell: 5m, units: 500}
guardrails:
  - {watched: errors, share: 0.6, objective: 0.001}
  - {watched: latency, share: 0.4}
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from contracts.errors import InvalidInput
from contracts.traffic import parse_percent
from deploy.rollout.plan import DEFAULTS, Guardrail, OnBlind, OnHarm, Plan, Step, Strategy, Watched

_DURATION = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = 64 * 1024  # bytes of a plan


def parse_plan(text: str, name: str = "plan") -> Plan:
    """Raises InvalidInput: `plan line 4: weight '150 %' is out of range …`."""
    if len(text) > _LONGEST:
        raise InvalidInput(f"{name} is longer than {_LONGEST} bytes, which no plan is")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise InvalidInput(f"{name} line {line}: {error.problem or 'this is not YAML'}") from None
    except yaml.YAMLError as error:
        raise InvalidInput(f"{name}: this is not YAML: {error}") from None
    if not isinstance(root, MappingNode):
        raise InvalidInput(f"{name}: expected a mapping such as `strategy: canary`")
    return _Reader(name).plan(root)


def seconds(text: str) -> float:
    """ "90s", "2m", "1.5h" or a bare number of seconds. Raises InvalidInput."""
    match = _DURATION.fullmatch(text.strip())
    if match is not None:
        return float(match["number"]) * _SECONDS[match["unit"]]
    return _number(text, "a duration such as 90s, 2m or 1.5h")


def _number(text: str, expected: str = "a number") -> float:
    try:
        value = float(text)
    except ValueError:
        raise InvalidInput(f"expected {expected}, got {text[:40]!r}") from None
    if not math.isfinite(value):
        raise InvalidInput(f"expected {expected}, got {text[:40]!r}")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 12:
        raise InvalidInput(f"expected a whole number, got {text[:40]!r}")
    return int(text)


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise InvalidInput(f"expected true or false, got {text[:40]!r}")
    return text == "true"


def _one_of(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    def read(text: str) -> StrEnum:
        if text not in list(kind):
            raise InvalidInput(f"expected one of {', '.join(kind)}, got {text[:40]!r}")
        return kind(text)

    return read


_Scalars = Mapping[str, Callable[[str], Any]]

_STEP: _Scalars = {"weight": parse_percent, "dwell": seconds, "units": _count}
_GUARDRAIL: _Scalars = {
    "watched": _one_of(Watched),
    "share": _number,
    "required": _flag,
    "objective": _number,
    "floor": seconds,
}
_PLAN: _Scalars = {
    "alpha": _number,
    "beta": _number,
    "margin": _number,
    "deadline": seconds,
    "on_harm": _one_of(OnHarm),
    "on_blind": _one_of(OnBlind),
    "blind_after": seconds,
    "blind_deadline": seconds,
    "holdback": parse_percent,
    "bake": seconds,
    "pause_most": seconds,
    "undo_window": seconds,
}


class _Reader:
    """Knows the file's name, for its sentences."""

    def __init__(self, name: str) -> None:
        self._name = name

    def plan(self, root: MappingNode) -> Plan:
        facts: dict[str, Any] = {}
        strategy = Strategy.CANARY
        for key, node, line in self._entries(root, {"strategy", "steps", "guardrails", *_PLAN}):
            if key == "strategy":
                strategy = self._strategy(node, line)
            elif key == "steps":
                facts[key] = tuple(
                    self._made(Step, item, _STEP, {"weight", "dwell"}) for item in self._items(node, key)
                )
            elif key == "guardrails":
                facts[key] = tuple(
                    self._made(Guardrail, item, _GUARDRAIL, {"watched", "share"}) for item in self._items(node, key)
                )
            else:
                facts[key] = self._scalar(node, key, _PLAN[key])
        default = DEFAULTS[strategy]
        merged = {field: getattr(default, field) for field in default.__dataclass_fields__} | facts
        made: Plan = self._told(root, lambda: Plan(**(merged | {"strategy": strategy})))
        return made

    def _strategy(self, node: Node, line: int) -> Strategy:
        named = self._scalar(node, "strategy", _one_of(Strategy))
        if named not in DEFAULTS:
            raise InvalidInput(
                f"{self._name} line {line}: strategy {named} needs no plan; plans are for {', '.join(DEFAULTS)}"
            )
        return Strategy(named)

    def _made(self, kind: Callable[..., Any], node: Node, scalars: _Scalars, needed: set[str]) -> Any:
        if not isinstance(node, MappingNode):
            raise self._wrong(node, f"expected a mapping of {', '.join(scalars)}")
        facts = {key: self._scalar(value, key, scalars[key]) for key, value, _ in self._entries(node, set(scalars))}
        if missing := sorted(needed - facts.keys()):
            raise self._wrong(node, f"{', '.join(missing)} is missing")
        return self._told(node, lambda: kind(**facts))

    def _entries(self, node: MappingNode, known: set[str]) -> Iterator[tuple[str, Node, int]]:
        seen: set[str] = set()
        for key, value in node.value:
            word = key.value if isinstance(key, ScalarNode) else ""
            if word not in known:
                raise self._wrong(key, f"there is no {str(word)[:40]!r} here; expected {', '.join(sorted(known))}")
            if word in seen:
                raise self._wrong(key, f"{word} is given twice")
            seen.add(word)
            yield word, value, key.start_mark.line + 1

    def _items(self, node: Node, key: str) -> list[Node]:
        if not isinstance(node, SequenceNode):
            raise self._wrong(node, f"{key} is a list")
        return list(node.value)

    def _scalar(self, node: Node, key: str, read: Callable[[str], Any]) -> Any:
        if not isinstance(node, ScalarNode):
            raise self._wrong(node, f"{key} is a single value")
        return self._told(node, lambda: read(node.value), f"{key}: ")

    def _told(self, node: Node, make: Callable[[], Any], before: str = "") -> Any:
        """What `make` makes, with the line in front of what it raises."""
        try:
            return make()
        except InvalidInput as error:
            raise self._wrong(node, before + error.message) from None

    def _wrong(self, node: Node, sentence: str) -> InvalidInput:
        return InvalidInput(f"{self._name} line {node.start_mark.line + 1}: {sentence}")
