"""The expected-version rule: one pure function, checked under the write lock.

The constants are the ones that event stores share; see EventStoreDB's and Emmett's documentation.
"""

from enum import Enum
from typing import Final, TypeAlias

from typing_extensions import override

from engine.errors import InvalidValue


class _Expectation(Enum):
    ANY = "ANY"
    NO_STREAM = "NO_STREAM"
    STREAM_EXISTS = "STREAM_EXISTS"

    @override
    def __repr__(self) -> str:
        return self.value

    @override
    def __str__(self) -> str:
        return self.value


ANY: Final = _Expectation.ANY
NO_STREAM: Final = _Expectation.NO_STREAM
STREAM_EXISTS: Final = _Expectation.STREAM_EXISTS

ExpectedVersion: TypeAlias = int | _Expectation


def check_expected_version(value: object) -> ExpectedVersion:
    """Return `value` if it is one of the constants, or a version of 0 or more (0: no stream)."""
    if isinstance(value, _Expectation):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise InvalidValue("expected_version", value, "is not ANY, NO_STREAM, STREAM_EXISTS or a version of 0 or more")


def holds(expected: ExpectedVersion, actual: int) -> bool:
    """Return whether a stream at version `actual` (0: it does not exist) meets the expectation."""
    match expected:
        case _Expectation.ANY:
            return True
        case _Expectation.NO_STREAM:
            return actual == 0
        case _Expectation.STREAM_EXISTS:
            return actual > 0
        case int():
            return actual == expected
