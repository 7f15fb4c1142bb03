"""What a person declares so that a model takes JPEG and PNG as they are: which pixels its input wants, in which order.

Kept in the package's manifest, hence part of a version's digest. `resolve` proves that a declaration fits a signature;
what is then done with a picture is serving/codec/pixels.py.

One formula for the numbers, per channel in the declared order: `(pixel * scale - mean) / std`, pixels from 0 to 255.
"""

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts.errors import InvalidInput
from contracts.signature import DEFAULT_SIGNATURE, Signature, TensorSpec

CHANNELS: Mapping[str, int] = {"RGB": 3, "BGR": 3, "gray": 1, "RGBA": 4}
RESIZES = ("bilinear", "nearest", "bicubic", "area")
FITS = ("stretch", "crop", "pad")
LAYOUTS = ("NHWC", "NCHW")
DTYPES = ("float32", "float64", "float16", "uint8")
MAX_SIDE = 4096  # pixels; a model's input, not a picture

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Preprocessing:
    """A declaration. None and () mean: as the signature says, or for numbers that nothing is changed.

    signature, input   which tensor takes the picture; the default signature and its only input when None
    size               (height, width) in pixels
    resize, antialias  with antialias every pixel of the picture counts, as in Pillow; without it only those nearest to
                       each new one, as in tf.image.resize unless told otherwise
    fit                stretch to the size, crop the middle of the right proportions, or pad what is missing with `pad`
    scale, mean, std   one number for all channels, or one for each
    """

    signature: str | None = None
    input: str | None = None
    size: tuple[int, int] | None = None
    resize: str = "bilinear"
    antialias: bool = False
    fit: str = "stretch"
    pad: float = 0.0
    channels: str | None = None
    layout: str = "NHWC"
    scale: Numbers = ()
    mean: Numbers = ()
    std: Numbers = ()


@dataclass(frozen=True)
class Target:
    """A declaration that fits: the tensor, and everything that was left open in it."""

    declared: Preprocessing
    signature: Signature
    input: TensorSpec
    height: int
    width: int
    channels: str


def resolve(declared: Preprocessing, signatures: tuple[Signature, ...]) -> Target:
    """Raise InvalidInput naming the field that does not fit the model."""
    signature = _signature(declared, signatures)
    spec = _input(declared, signature)
    if spec.dtype not in DTYPES:
        raise _wrong("input", f"a tensor of {_any_of(DTYPES)}", f'"{spec.name}" is {spec}')
    if spec.shape is None or len(spec.shape) != 4 or spec.shape[0] not in (None, 1):
        axes = ", ".join({"N": "rows"}.get(axis, axis) for axis in declared.layout)
        raise _wrong("input", f"a tensor of shape [{axes}]", f'"{spec.name}" is {spec}')
    by_axis = dict(zip(declared.layout, spec.shape, strict=True))
    channels = _channels(declared, by_axis["C"], spec)
    height, width = _size(declared, (by_axis["H"], by_axis["W"]), spec)
    if spec.dtype == "uint8" and (declared.scale or declared.mean or declared.std):
        raise InvalidInput(
            f'preprocessing: "scale", "mean" and "std" are for inputs of floats, and "{spec.name}" is {spec}'
        )
    count = CHANNELS[channels]
    for field in ("scale", "mean", "std"):
        if len(getattr(declared, field)) not in (0, 1, count):
            raise _wrong(field, f"one number, or {count} for {channels}", f"{len(getattr(declared, field))} numbers")
    return Target(declared, signature, spec, height, width, channels)


def _signature(declared: Preprocessing, signatures: tuple[Signature, ...]) -> Signature:
    wanted = declared.signature or (DEFAULT_SIGNATURE if len(signatures) > 1 else signatures[0].name)
    for signature in signatures:
        if signature.name == wanted:
            return signature
    raise _wrong("signature", f"one of {_any_of([s.name for s in signatures])}", f'"{wanted}"')


def _input(declared: Preprocessing, signature: Signature) -> TensorSpec:
    names = _any_of([spec.name for spec in signature.inputs])
    if len(signature.inputs) != 1:
        raise _wrong("signature", "one that takes a picture and nothing else", f'"{signature.name}" takes {names}')
    spec = signature.inputs[0]
    if declared.input not in (None, spec.name):
        raise _wrong("input", f'{names}, the only input of "{signature.name}"', f'"{declared.input}"')
    return spec


def _channels(declared: Preprocessing, count: int | None, spec: TensorSpec) -> str:
    fitting = [name for name, n in CHANNELS.items() if count in (None, n)]
    if declared.channels in fitting:
        return declared.channels
    if declared.channels is None and count == 1:
        return "gray"  # the only word for it; the order of several must be said, because a wrong guess goes unnoticed
    expected = _any_of(fitting) if fitting else "a model with 1, 3 or 4 channels"
    got = "nothing" if declared.channels is None else f'"{declared.channels}"'
    raise _wrong("channels", f'{expected} for "{spec.name}", {spec}', got)


def _size(declared: Preprocessing, fixed: tuple[int | None, int | None], spec: TensorSpec) -> tuple[int, int]:
    if declared.size is None:
        height, width = fixed
        if height is None or width is None:
            raise _wrong("size", f"[height, width], which {spec} leaves open", "nothing")
        return height, width
    if any(f not in (None, d) for f, d in zip(fixed, declared.size, strict=True)):
        raise _wrong("size", f"the one of {spec}", str(list(declared.size)))
    return declared.size


def to_json(declared: Preprocessing) -> dict[str, Any]:
    """Every field that says something, under the names `from_json` reads."""
    numbers = {name: _short(getattr(declared, name)) for name in ("scale", "mean", "std") if getattr(declared, name)}
    chosen = {name: getattr(declared, name) for name in ("signature", "input", "channels")}
    return {
        **{name: value for name, value in chosen.items() if value is not None},
        **({} if declared.size is None else {"size": list(declared.size)}),
        "resize": declared.resize,
        "antialias": declared.antialias,
        "fit": declared.fit,
        **({"pad": declared.pad} if declared.fit == "pad" else {}),
        "layout": declared.layout,
        **numbers,
    }


def parse(text: bytes, name: str) -> Preprocessing:
    """What a person wrote into the file `name`. Raise InvalidInput with the line or the field of the mistake."""
    try:
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"preprocessing {name}: line {error.lineno}, column {error.colno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"preprocessing {name}: {error}") from error
    return from_json(value)


def from_json(value: Any) -> Preprocessing:
    """Raise InvalidInput naming the field that is unknown or holds something else than it should."""
    if not isinstance(value, Mapping):
        raise InvalidInput(f"preprocessing: expected a JSON object, got {type(value).__name__}")
    for key in value:
        if key not in _READERS:
            near = difflib.get_close_matches(key, _READERS, 1)
            hint = f'did you mean "{near[0]}"?' if near else f"known are {_any_of(tuple(_READERS))}"
            raise InvalidInput(f'preprocessing: unknown field "{key[:40]}": {hint}')
    return Preprocessing(**{key: _READERS[key](key, item) for key, item in value.items()})


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(field, "text", _shown(value))
    return value


def _flag(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(field, "true or false", _shown(value))
    return value


def _number(field: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e30:
        raise _wrong(field, "a number", _shown(value))
    return float(value)


def _pixel(field: str, value: Any) -> float:
    number = _number(field, value)
    if not 0 <= number <= 255:
        raise _wrong(field, "a pixel from 0 to 255", _shown(value))
    return number


def _numbers(field: str, value: Any) -> Numbers:
    if isinstance(value, list) and not 1 <= len(value) <= 4:
        raise _wrong(field, "one number, or one for each channel", _shown(value))
    return tuple(_number(field, item) for item in (value if isinstance(value, list) else [value]))


def _divisors(field: str, value: Any) -> Numbers:
    numbers = _numbers(field, value)
    if any(number == 0 or not math.isfinite(1 / number) for number in numbers):
        raise _wrong(field, "numbers to divide by", _shown(value))
    return numbers


def _sides(field: str, value: Any) -> tuple[int, int]:
    sides = [value, value] if isinstance(value, int) else value
    fits = isinstance(sides, list) and len(sides) == 2
    if not fits or any(isinstance(s, bool) or not isinstance(s, int) or not 1 <= s <= MAX_SIDE for s in sides):
        raise _wrong(field, f"[height, width], each from 1 to {MAX_SIDE}", _shown(value))
    return sides[0], sides[1]


def _one_of(*words: str) -> Any:
    def read(field: str, value: Any) -> str:
        if value not in words:
            raise _wrong(field, _any_of(words), _shown(value))
        return str(value)

    return read


_READERS: Mapping[str, Any] = {
    "signature": _text,
    "input": _text,
    "size": _sides,
    "resize": _one_of(*RESIZES),
    "antialias": _flag,
    "fit": _one_of(*FITS),
    "pad": _pixel,
    "channels": _one_of(*CHANNELS),
    "layout": _one_of(*LAYOUTS),
    "scale": _numbers,
    "mean": _numbers,
    "std": _divisors,
}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f'field "{twice[:40]}" stands twice')
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _short(numbers: Numbers) -> float | list[float]:
    return numbers[0] if len(numbers) == 1 else list(numbers)


def _shown(value: Any) -> str:
    return json.dumps(value)[:60]


def _any_of(names: Any) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _wrong(field: str, expected: str, got: str) -> InvalidInput:
    return InvalidInput(f'preprocessing: field "{field}": expected {expected}, got {got}')
