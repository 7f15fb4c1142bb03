"""How a model's traffic is divided between its two places, in steps of 0.01 %."""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from contracts.errors import InvalidInput
from contracts.names import Color

TOTAL = 10_000  # one unit is 0.01 %; Envoy's hash intervals stay monotone because this never changes


@dataclass(frozen=True)
class TrafficSplit:
    """Shares of blue and green in units of 0.01 %. Cannot be made with shares that do not add up to 100 %."""

    blue: int
    green: int

    def __post_init__(self) -> None:
        if self.blue < 0 or self.green < 0:
            raise InvalidInput(
                f"weights must not be negative, got blue {percent(self.blue)} and green {percent(self.green)}"
            )
        if self.blue + self.green != TOTAL:
            raise InvalidInput(f"weights add up to {percent(self.blue + self.green)}, not 100 %")

    @classmethod
    def all_to(cls, color: Color) -> "TrafficSplit":
        return cls(blue=TOTAL, green=0) if color is Color.BLUE else cls(blue=0, green=TOTAL)

    @classmethod
    def with_share(cls, color: Color, units: int) -> "TrafficSplit":
        """`units` of 0.01 % for `color`, the rest for the other place."""
        return cls(blue=units, green=TOTAL - units) if color is Color.BLUE else cls(blue=TOTAL - units, green=units)

    def share(self, color: Color) -> int:
        return self.blue if color is Color.BLUE else self.green


@dataclass(frozen=True)
class Mirror:
    """A share of a model's requests, in units of 0.01 %, that is copied to the version in one place, whose answers
    nobody gets."""

    color: Color
    units: int

    def __post_init__(self) -> None:
        if not 0 < self.units <= TOTAL:
            raise InvalidInput(f"a mirror takes more than 0 % and at most 100 % of requests, got {percent(self.units)}")


def parse_percent(text: str | float | int) -> int:
    """Turn "25", 12.5 or "0.01" into units of 0.01 %; raise InvalidInput for anything but 0…100 in steps of 0.01."""
    try:
        value = Decimal(str(text).strip().removesuffix("%").strip())
    except InvalidOperation:
        raise InvalidInput(f"weight {str(text)[:40]!r} is not a number: expected a percentage from 0 to 100") from None
    if not value.is_finite() or not 0 <= value <= 100:
        raise InvalidInput(f"weight {str(text)[:40]} is out of range: expected a percentage from 0 to 100")
    units = value * 100
    if units != units.to_integral_value():
        raise InvalidInput(f"weight {str(text)[:40]} is too fine: the smallest step is 0.01 %")
    return int(units)


def percent(units: int) -> str:
    """Units of 0.01 % as a person reads them: 2500 → "25 %", 1 → "0.01 %"."""
    return f"{Decimal(units) / 100:f} %"


def as_number(units: int) -> float:
    """Units of 0.01 % as a percentage: 2500 → 25.0."""
    return units / 100
