"""Hostile input: texts that mean something to paths, SQL, shells or terminals, and objects that are not texts."""

from collections.abc import Sequence
from typing import Any, Final

from hypothesis import strategies as st

from engine.encoding.values import VALUE_DEPTH_MAX
from engine.errors import InvalidName
from engine.names import NAME_BYTES_MAX, check_name
from tests.strategies import documents, values

TRICKS: Final = (
    # paths
    "..", ".", "../../etc/passwd", "/etc/passwd", "~root", "a/b", "a\\b", "C:\\temp", "C:", "\\\\host\\share",
    "nul.txt", "CON", "aux", "a.", "a ", " a", "-rf", "--help", "a\0b", "%2e%2e%2f", "file:///etc/passwd",
    ".hidden", "a/../b",
    # SQL, shells, formats
    "'; DROP TABLE events; --", '" OR ""="', "a'b", 'a"b', "`id`", "$(id)", "${HOME}", "a;b", "a|b", "a\nb", "a\r\nb",
    "{0}", "{name!r}", "%s%n", "%(name)s", "*", "?", "[a-z]", "%", "_", "NULL", "null", "None", "undefined", "true",
    # terminals, markup
    "\x1b[31mred", "\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\x07", "\x08\x08", "\x7f", "[red]x[/red]", "[/]",
    "[link=x]y", ":smile:", "<script>alert(1)</script>", "&amp;", "<!--", "| a | b |", "# a", "**b**", "\\", "$x$",
    "@me",
    # invisible characters and right-to-left overrides
    "\u202egnp.exe", "\u2066a\u2069", "\u200b", "a\u200bb", "\u200d", "\ufeff", "\u00ad", "\u2028", "\u2029", "\x85",
    "\u180e", "\U000e0041", "\u061c", "\ufff9", "\t", "\x0b", "\x0c",
    # look-alikes, which must stay distinct
    "a", "\u0430", "\uff41", "A", "\u00e9", "e\u0301", "\ufb01", "fi", "\u2126", "\u03a9", "\u0131", "i", "\u017f", "s",
    "\u1e9e", "\u00df", "ss", "\u212a", "K", "\u00a0", " ", "\u3000", "\u115f", "\u3164", "\u2800",
    # the rest of Unicode
    "\ue000", "\U0010fffd", "\uffff", "\ufdd0", "\u0378", "\U0001f469\u200d\U0001f680", "\U0001f1e9\U0001f1ea",
    "\u0e33\u0e33", "a\u0308\u0308\u0308", "\ud800", "\udc00", "\ud83d\ude00", "a\udcffb",
    # numbers and keys
    "0", "-1", "1e400", "NaN", "Infinity", "9" * 40, "\u0661", "\u00b2", "", "branch", "run_id", "events", "__class__",
    "p1", "a@1", "a:b@p1", "r@2026-01-01",
    # sizes
    "x" * NAME_BYTES_MAX, "x" * (NAME_BYTES_MAX + 1), "\u00e9" * 256, "\u00e9" * 257, "x" * 10_000, "\U0001f600" * 128,
    "." * 512, "a." * 200, "x" * 1_100_000,
)  # fmt: skip
"""Hostile texts, passed as names, as values and as other arguments."""


def may_be_a_name(text: str) -> bool:
    """Return whether the engine accepts a text as a name."""
    try:
        check_name(text, "name")
    except InvalidName:
        return False
    return True


def _one_of(several: Sequence[Any]) -> st.SearchStrategy[Any]:
    """Draw by index, because the repr of `sampled_from` would hold a megabyte of members."""
    return st.integers(0, len(several) - 1).map(several.__getitem__)


_SHORT: Final = tuple(trick for trick in TRICKS if len(trick) < 100)

TEXTS: Final[st.SearchStrategy[str]] = st.one_of(
    _one_of(TRICKS),
    st.text(st.characters(exclude_categories=()), max_size=30),
    st.lists(_one_of(_SHORT), min_size=2, max_size=4).map("".join),
)

NO_TEXTS: Final = (5, 1.5, True, b"r", ["r"], {"r": 1}, ("r",), {"r"}, object(), 1j, float("nan"), 10**30)

NAMES: Final[st.SearchStrategy[Any]] = st.one_of(TEXTS, TEXTS, TEXTS, _one_of(NO_TEXTS))
"""Anything that a caller may pass where a text is expected."""


def nested(depth: int, innermost: Any = 1) -> Any:
    """Return a value of a given depth, lists and mappings by turns."""
    value = innermost
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def _endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


EXTREMES: Final[tuple[Any, ...]] = (
    2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**64, 10**400, float("nan"), float("inf"), -float("inf"), -0.0, 5e-324,
    nested(VALUE_DEPTH_MAX), nested(VALUE_DEPTH_MAX + 1), _endless(), "x" * 1_048_000, "x" * 1_100_000,
    list(range(20_000)), {str(number): number for number in range(5000)}, {"": ""}, {1: 2}, {None: 1}, {(1, 2): 3},
    {"a\ud800": 1}, "\ud800", b"bytes", {1, 2}, frozenset(), object(), 1j, range(3), memoryview(b"x"), Exception("x"),
    type,
)  # fmt: skip
"""Values at the limits and beyond them."""

BOTTOMLESS: Final = nested(5000)
"""A value that is nested too deeply for Python's `repr`."""

VALUES: Final[st.SearchStrategy[Any]] = st.one_of(
    _one_of(EXTREMES),
    TEXTS,
    values,
    documents,
    st.dictionaries(TEXTS, values, max_size=2),
    st.lists(st.one_of(TEXTS, _one_of(EXTREMES)), max_size=2),
)
"""Anything that a caller may pass where a value or a document is expected."""
