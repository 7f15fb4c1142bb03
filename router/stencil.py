"""Serialized messages with gaps: made once, filled in for each model.

Ten thousand models have route lists that differ in names and digests alone. Building the messages of one takes half a
millisecond, filling in their bytes a few microseconds. Texts of the same length keep every length around them as it
is, so a stencil holds for texts of the lengths it was made with. Knows nothing of Envoy.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

Texts = tuple[str, ...]
Make = Callable[[Texts], Sequence[bytes]]


class Stencil(NamedTuple):
    """`pieces` and, by their index, the texts between them: piece, text, piece, text, …, piece."""

    pieces: tuple[bytes, ...]
    texts: tuple[int, ...]

    def filled(self, texts: Sequence[bytes]) -> bytes:
        """The message of these texts."""
        whole = [b""] * (2 * len(self.texts) + 1)
        whole[::2] = self.pieces
        whole[1::2] = [texts[index] for index in self.texts]
        return b"".join(whole)


def stencils(make: Make, lengths: Sequence[int]) -> tuple[Stencil, ...]:
    """One for each message that `make` makes of ASCII texts of these lengths. Where bytes change with a text is where
    it stands: nothing needs to be known about the messages, and no text can be mistaken for a piece of them."""
    plain = tuple("a" * length for length in lengths)
    varied = [make((*plain[:i], "b" * length, *plain[i + 1 :])) for i, length in enumerate(lengths)]
    return tuple(_cut(whole, others, lengths) for whole, *others in zip(make(plain), *varied, strict=True))


def _cut(whole: bytes, others: Sequence[bytes], lengths: Sequence[int]) -> Stencil:
    """`others` are the same message, each with one text changed in each of its letters."""
    places = sorted(
        (at, index)
        for index, (other, length) in enumerate(zip(others, lengths, strict=True))
        for first, end in _differences(whole, other)
        for at in range(first, end, length)  # a text that follows itself is one difference
    )
    begins = (0, *(at + lengths[index] for at, index in places))
    ends = (*(at for at, _ in places), len(whole))
    return Stencil(tuple(map(whole.__getitem__, map(slice, begins, ends))), tuple(index for _, index in places))


def _differences(one: bytes, other: bytes) -> list[tuple[int, int]]:
    changed = int.from_bytes(one) ^ int.from_bytes(other)
    return [found.span() for found in re.finditer(rb"[^\0]+", changed.to_bytes(len(one)))]
