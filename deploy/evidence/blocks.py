"""What is counted between two looks at the counters, on both versions at once: the only food of the tests here.

A block is compared within itself, so what shakes both versions alike (a slow network, a bad hour) is evidence of
nothing. Where counters come from, and what a reset does to them, is left to the reader of counters.
"""

from dataclasses import dataclass

from contracts.errors import Internal


@dataclass(frozen=True)
class Arm:
    """One version in one block: `units` that finished and how many of them were `bad`.

    The unit is whatever fails independently: a request, or an engine run where a whole batch fails together."""

    units: int
    bad: int

    def __post_init__(self) -> None:
        if not 0 <= self.bad <= self.units:
            raise Internal(f"evidence: {self.bad} bad of {self.units} units")

    def __add__(self, other: "Arm") -> "Arm":
        return Arm(self.units + other.units, self.bad + other.bad)


@dataclass(frozen=True)
class Block:
    """Both versions over the same stretch of time."""

    live: Arm
    candidate: Arm

    def __add__(self, other: "Block") -> "Block":
        return Block(self.live + other.live, self.candidate + other.candidate)


NOTHING = Block(Arm(0, 0), Arm(0, 0))
