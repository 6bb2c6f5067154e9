"""Mutations of bytes, drawn from a seed; a seed always gives the same mutation, so that a failure can be repeated.

Blind mutations know nothing of the format. The others know where its values are, so that their results are often well
formed and reach the code behind the parser.
"""

import random
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, TypeVar

from msgspec import Struct

Span: TypeAlias = tuple[int, int]
"""The begin and the end of a value."""

_Choice = TypeVar("_Choice")

_STEPS_MAX: Final = 3
_REPEATED_MAX: Final = 200
_GRAFTED_ONLY: Final = 0.4  # the share of these mutations, without which few results would be well formed


class Sample(Struct, frozen=True):
    """Undamaged bytes, with the spans of all values in them, nested values included."""

    data: bytes
    values: tuple[Span, ...]


class Format(Struct, frozen=True):
    """What an attacker who knows the format would use.

    `fragments` are values and pieces of values that a reader must survive; `tags` are the bytes that give a value's
    type and length.
    """

    fragments: tuple[bytes, ...]
    tags: bytes


class Mutations:
    """Mutations of some samples."""

    def __init__(self, samples: Sequence[Sample], known: Format) -> None:
        self.samples = samples
        self._format = known

    def of(self, seed: int) -> tuple[int, bytes]:
        """Return the index of a sample and its mutation by a seed, which always differs from the sample."""
        chance = random.Random(seed)
        index = int(chance.random() * len(self.samples))
        return index, self.mutated(index, chance)

    def mutated(self, index: int, chance: random.Random) -> bytes:
        """Return a mutation of a sample."""
        hand = _Hand(self.samples, index, self._format, chance)
        while hand.data == hand.sample.data:
            if chance.random() < _GRAFTED_ONLY:
                hand.graft()
            else:
                for _ in range(1 + int(chance.random() * _STEPS_MAX)):
                    chance.choice(_BLIND)(hand)
        return bytes(hand.data)


class _Hand:
    """Changes a copy of one sample, step by step."""

    def __init__(self, samples: Sequence[Sample], index: int, known: Format, chance: random.Random) -> None:
        self.samples = samples
        self.sample = samples[index]
        self.data = bytearray(self.sample.data)
        self.known = known
        self.chance = chance

    def graft(self) -> None:
        """Replace a value by a fragment, or by a value of any sample."""
        begin, end = self._one(self.sample.values)
        if self.chance.random() < 0.7:
            self.data[begin:end] = self._one(self.known.fragments)
        else:
            donor = self._one(self.samples)
            first, last = self._one(donor.values)
            self.data[begin:end] = donor.data[first:last]

    def flip_bit(self) -> None:
        place = self._place()
        self.data[place : place + 1] = bytes([byte ^ 1 << self._below(8) for byte in self.data[place : place + 1]])

    def set_byte(self) -> None:
        place = self._place()
        self.data[place : place + 1] = bytes([self._below(256)])

    def swap_tag(self) -> None:
        """Replace a value's type."""
        begin, _ = self._one(self.sample.values)
        self.data[begin : begin + 1] = bytes([self._one(self.known.tags)])

    def edit_length(self) -> None:
        """Change the bytes after a tag, where lengths are stored, to an extreme or a neighbouring number."""
        begin, _ = self._one(self.sample.values)
        length = 1 + self._below(4)
        known = int.from_bytes(self.data[begin + 1 : begin + 1 + length], "big")
        other = self._one((0, 1, known + 1, max(known - 1, 0), known * 2, 2 ** (8 * length) - 1, 2 ** (8 * length - 1)))
        self.data[begin + 1 : begin + 1 + length] = (other % 2 ** (8 * length)).to_bytes(length, "big")

    def insert(self) -> None:
        place = self._place()
        self.data[place:place] = self._one(self.known.fragments)

    def splice(self) -> None:
        """Continue with the rest of another sample."""
        other = self._one(self.samples).data
        self.data[self._place() :] = other[self._below(len(other)) :]

    def append(self) -> None:
        self.data += self._one(self.samples).data

    def truncate(self) -> None:
        del self.data[self._place() :]

    def cut_out(self) -> None:
        place = self._place()
        del self.data[place : place + 1 + self._below(16)]

    def repeat(self) -> None:
        begin, end = self._one(self.sample.values)
        self.data[begin:begin] = bytes(self.data[begin : min(end, begin + 64)]) * self._below(_REPEATED_MAX)

    def swap_values(self) -> None:
        one, other = sorted((self._one(self.sample.values), self._one(self.sample.values)))
        if one[1] <= other[0]:
            first, second = bytes(self.data[slice(*one)]), bytes(self.data[slice(*other)])
            self.data[slice(*other)] = first
            self.data[slice(*one)] = second

    def _place(self) -> int:
        return self._below(len(self.data) + 1)

    def _below(self, limit: int) -> int:
        return int(self.chance.random() * limit)  # four times as fast as `randrange`

    def _one(self, choices: Sequence[_Choice]) -> _Choice:
        return choices[int(self.chance.random() * len(choices))]


_BLIND: Final[tuple[Callable[[_Hand], None], ...]] = (
    *[_Hand.flip_bit] * 2,
    *[_Hand.set_byte] * 2,
    *[_Hand.swap_tag] * 2,
    *[_Hand.edit_length] * 2,
    _Hand.graft,
    _Hand.insert,
    _Hand.splice,
    _Hand.append,
    _Hand.truncate,
    _Hand.cut_out,
    _Hand.repeat,
    _Hand.swap_values,
)
