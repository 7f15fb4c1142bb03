"""A plan as people write it, in YAML with the line of every mistake, or as the same in JSON with its place; and back.
What is not written keeps its strategy's default.

strategy: canary
alpha: 0.01
steps:
  - {weight: 1 %, dwell: 2m}
  - {weight: 25 %, dwell: 5m, units: 500}
guardrails:
  - {watched: errors, share: 0.6, objective: 0.001}
  - {watched: latency, share: 0.4}
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from contracts.errors import InvalidInput
from contracts.traffic import parse_percent, percent
from deploy.rollout.plan import DEFAULTS, Guardrail, OnBlind, OnHarm, Plan, Step, Strategy, Watched

_DURATION = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = 64 * 1024  # bytes of a plan


def parse_plan(text: str, name: str = "plan") -> Plan:
    """Raises InvalidInput: `plan line 4: weight: '150 %' is out of range …`."""
    if len(text) > _LONGEST:
        raise InvalidInput(f"{name} is longer than {_LONGEST} bytes, which no plan is")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise InvalidInput(f"{name} line {line}: {error.problem or 'this is not YAML'}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidInput(f"{name}: this is not YAML: {error}") from None
    return _read(root, name, lambda node: f"{name} line {node.start_mark.line + 1}")


def plan_from_json(value: Mapping[str, Any], name: str = "plan") -> Plan:
    """The same from a JSON object. Raises InvalidInput: `plan.steps[1]: weight 150 is out of range …`."""
    try:
        root = yaml.compose(json.dumps(value), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidInput(f"{name} cannot be read: {type(error).__name__}") from None
    places = dict(_places(root, name))
    return _read(root, name, lambda node: places.get(id(node), name))


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """All of a plan, as `plan_from_json` reads it and YAML shows it well."""
    return {
        "strategy": plan.strategy.value,
        "steps": [_written(step, _STEP) for step in plan.steps],
        "guardrails": [_written(guardrail, _GUARDRAIL) for guardrail in plan.guardrails],
        **_written(plan, _PLAN),
    }


def plan_to_yaml(plan: Plan) -> str:
    """All of a plan as a file to start from: one line for each step and guardrail, without what is as usual there."""
    usual = _written(Guardrail(plan.guardrails[0].watched, 1.0), _GUARDRAIL)
    whole = plan_to_json(plan)
    lines = [f"strategy: {whole.pop('strategy')}"]
    for name in ("steps", "guardrails"):
        lines.append(f"{name}:" if whole[name] else f"{name}: []")
        for item in whole.pop(name):
            said = {k: v for k, v in item.items() if k in ("watched", "share") or usual.get(k, ...) != v}
            lines.append(f"  - {yaml.safe_dump(said, default_flow_style=True, sort_keys=False, width=200).strip()}")
    return "\n".join(lines) + "\n" + yaml.safe_dump(whole, sort_keys=False)


def _read(root: Node | None, name: str, where: Callable[[Node], str]) -> Plan:
    if not isinstance(root, MappingNode):
        raise InvalidInput(f"{name}: expected a mapping such as `strategy: canary`")
    return _Reader(where).plan(root)


def _places(node: Node | None, place: str) -> Iterator[tuple[int, str]]:
    """Where every mapping and list of a document stands, and what is in it, by its identity."""
    yield id(node), place
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield id(key), place
            yield from _places(value, place if isinstance(value, ScalarNode) else f"{place}.{str(key.value)[:40]}")
    elif isinstance(node, SequenceNode):
        for i, item in enumerate(node.value):
            yield from _places(item, f"{place}[{i}]")


def _written(value: object, kinds: "_Kinds") -> dict[str, Any]:
    """What is not said is left out."""
    facts = {name: getattr(value, name) for name in kinds}
    return {name: kinds[name].write(fact) for name, fact in facts.items() if fact is not None}


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


class _Kind(NamedTuple):
    """One kind of scalar: how its text is read, and how it is written."""

    read: Callable[[str], Any]
    write: Callable[[Any], Any] = lambda value: value


def _duration(value: float) -> str | float:
    for unit, size in (("h", 3600), ("m", 60), ("s", 1)):
        if value >= size and value % size == 0:
            return f"{value / size:g}{unit}" if value / size < 1e5 else value
    return value


def _word(kind: type[StrEnum]) -> _Kind:
    return _Kind(_one_of(kind), lambda value: value.value)


_Kinds = Mapping[str, _Kind]
_NUMBER, _WHOLE, _YES_NO = _Kind(_number), _Kind(_count), _Kind(_flag)
_DURATION_OF, _SHARE = _Kind(seconds, _duration), _Kind(parse_percent, percent)

_STEP: _Kinds = {"weight": _SHARE, "dwell": _DURATION_OF, "units": _WHOLE}
_GUARDRAIL: _Kinds = {
    "watched": _word(Watched),
    "share": _NUMBER,
    "required": _YES_NO,
    "objective": _NUMBER,
    "floor": _DURATION_OF,
    "on_harm": _word(OnHarm),
    "min_jsd_bits": _NUMBER,
    "loss": _NUMBER,
    "dispersion": _NUMBER,
    "tolerance": _NUMBER,
}
_PLAN: _Kinds = {
    "alpha": _NUMBER,
    "beta": _NUMBER,
    "margin": _NUMBER,
    "deadline": _DURATION_OF,
    "on_harm": _word(OnHarm),
    "on_blind": _word(OnBlind),
    "blind_after": _DURATION_OF,
    "blind_deadline": _DURATION_OF,
    "mirror": _SHARE,
    "mirror_for": _DURATION_OF,
    "absolute_slo_guard": _YES_NO,
    "holdback": _SHARE,
    "bake": _DURATION_OF,
    "pause_most": _DURATION_OF,
    "undo_window": _DURATION_OF,
}


class _Reader:
    """`where` says of a node where its reader finds it."""

    def __init__(self, where: Callable[[Node], str]) -> None:
        self._where = where

    def plan(self, root: MappingNode) -> Plan:
        facts: dict[str, Any] = {}
        strategy = Strategy.CANARY
        for key, node in self._entries(root, {"strategy", "steps", "guardrails", *_PLAN}):
            if key == "strategy":
                strategy = self._strategy(node)
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

    def _strategy(self, node: Node) -> Strategy:
        named = self._scalar(node, "strategy", _word(Strategy))
        if named not in DEFAULTS:
            raise self._wrong(node, f"strategy {named} needs no plan; plans are for {', '.join(DEFAULTS)}")
        return Strategy(named)

    def _made(self, make: Callable[..., Any], node: Node, kinds: _Kinds, needed: set[str]) -> Any:
        if not isinstance(node, MappingNode):
            raise self._wrong(node, f"expected a mapping of {', '.join(kinds)}")
        facts = {key: self._scalar(value, key, kinds[key]) for key, value in self._entries(node, set(kinds))}
        if missing := sorted(needed - facts.keys()):
            raise self._wrong(node, f"{', '.join(missing)} is missing")
        return self._told(node, lambda: make(**facts))

    def _entries(self, node: MappingNode, known: set[str]) -> Iterator[tuple[str, Node]]:
        seen: set[str] = set()
        for key, value in node.value:
            word = key.value if isinstance(key, ScalarNode) else ""
            if word not in known:
                raise self._wrong(key, f"there is no {str(word)[:40]!r} here; expected {', '.join(sorted(known))}")
            if word in seen:
                raise self._wrong(key, f"{word} is given twice")
            seen.add(word)
            yield word, value

    def _items(self, node: Node, key: str) -> list[Node]:
        if not isinstance(node, SequenceNode):
            raise self._wrong(node, f"{key} is a list")
        return list(node.value)

    def _scalar(self, node: Node, key: str, kind: _Kind) -> Any:
        if not isinstance(node, ScalarNode):
            raise self._wrong(node, f"{key} is a single value")
        return self._told(node, lambda: kind.read(node.value), key)

    def _told(self, node: Node, make: Callable[[], Any], key: str = "") -> Any:
        """What `make` makes; with its place, and the key unless it is named, in front of what it raises."""
        try:
            return make()
        except InvalidInput as error:
            named = not key or error.message.startswith(key)
            raise self._wrong(node, error.message if named else f"{key}: {error.message}") from None

    def _wrong(self, node: Node, sentence: str) -> InvalidInput:
        return InvalidInput(f"{self._where(node)}: {sentence}")
