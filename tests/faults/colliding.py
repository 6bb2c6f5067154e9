"""Tuples of two numbers that all have one hash, which make a mapping slow to build: CPython's tuple hash inverted."""

from typing import Final

_BITS: Final = 2**64
_PRIME_1, _PRIME_2, _PRIME_5 = 11400714785074694791, 14029467366897019727, 2870177450012600261
_INVERSE_1, _INVERSE_2 = pow(_PRIME_1, -1, _BITS), pow(_PRIME_2, -1, _BITS)
_HASHED_AS_ITSELF_MAX: Final = 2**61 - 2


def tuples_of_one_hash(count: int) -> list[tuple[int, int]]:
    """Return `count` tuples of one hash; under another interpreter they are just tuples."""
    before_last = _rotated(_step(_step(_PRIME_5, 1), 1) * _INVERSE_1 % _BITS, 33)
    found: list[tuple[int, int]] = []
    first = 0
    while len(found) < count:
        first += 1
        second = (before_last - _step(_PRIME_5, first)) * _INVERSE_2 % _BITS
        second -= _BITS if second >= _BITS // 2 else 0
        if abs(second) <= _HASHED_AS_ITSELF_MAX and second != -1:
            found.append((first, second))
    return found


def _step(accumulated: int, hashed: int) -> int:
    return _rotated((accumulated + hashed * _PRIME_2) % _BITS, 31) * _PRIME_1 % _BITS


def _rotated(number: int, bits: int) -> int:
    return (number << bits | number >> (64 - bits)) % _BITS
