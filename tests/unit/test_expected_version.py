"""The expected-version rule as a table of cases."""

import pytest

from engine.errors import InvalidValue
from engine.expected_version import ANY, NO_STREAM, STREAM_EXISTS, ExpectedVersion, check_expected_version, holds


@pytest.mark.parametrize(
    ("expected", "versions_that_hold"),
    [
        (ANY, {0, 1, 2, 100}),
        (NO_STREAM, {0}),
        (STREAM_EXISTS, {1, 2, 100}),
        (0, {0}),
        (1, {1}),
        (2, {2}),
        (3, set()),
        (2**70, set()),
    ],
)
def test_each_expectation_holds_for_exactly_these_versions(
    expected: ExpectedVersion, versions_that_hold: set[int]
) -> None:
    """Each expectation holds for exactly these stream versions; version 0 means that the stream does not exist."""
    assert {version for version in (0, 1, 2, 100) if holds(expected, version)} == versions_that_hold


@pytest.mark.parametrize("value", [ANY, NO_STREAM, STREAM_EXISTS, 0, 1, 2**63])
def test_what_can_be_expected_passes(value: ExpectedVersion) -> None:
    """The constants and integers from 0 are valid expectations."""
    assert check_expected_version(value) is value


@pytest.mark.parametrize("value", [-1, True, False, "ANY", None, 1.0, b"1", [1]])
def test_what_can_never_be_expected_is_refused(value: object) -> None:
    """Any other value as an expectation raises InvalidValue."""
    with pytest.raises(InvalidValue, match="expected_version"):
        check_expected_version(value)


def test_the_constants_show_their_names() -> None:
    """The constants are shown by their names."""
    assert [str(each) for each in (ANY, NO_STREAM, STREAM_EXISTS)] == ["ANY", "NO_STREAM", "STREAM_EXISTS"]
    assert repr(NO_STREAM) == "NO_STREAM"
