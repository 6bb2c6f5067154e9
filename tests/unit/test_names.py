"""The rule for the names that callers give."""

import enum
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidName
from engine.names import NAME_BYTES_MAX, ROOT, check_branch, check_name, child_branch
from tests.strategies import names


@pytest.mark.parametrize(
    "name",
    [
        "a",
        " ",
        "fit.a",
        "map.0.5",
        "map.[1, 2]",
        "..",
        "../../etc/passwd",
        "C:\\temp",
        "'; DROP TABLE runs; --",
        "%",
        "naïve",
        "日本語",
        "👩",
        "e\u0301",
        "\ue000",
        "a\u00a0b",
        "x" * NAME_BYTES_MAX,
        "é" * (NAME_BYTES_MAX // 2),
    ],
)
def test_printable_text_is_a_name_and_comes_back_unchanged(name: str) -> None:
    """Any printable Unicode text of 1 to 512 bytes is a name and is not normalized."""
    assert check_name(name, "run id") == name


@pytest.mark.parametrize(
    "character",
    [
        "\x00",  # Cc
        "\n",
        "\x1b",
        "\x7f",
        "\x85",
        "\u200b",  # Cf: zero width space
        "\u202e",  # Cf: right-to-left override
        "\u2066",  # Cf: isolate
        "\ufeff",  # Cf: byte order mark
        "\U000e0041",  # Cf: tag
        "\ud800",  # Cs
        "\u2028",  # Zl
        "\u2029",  # Zp
    ],
)
def test_unprintable_characters_are_refused_by_place(character: str) -> None:
    """A character of the categories Cc, Cf, Cs, Zl or Zp raises InvalidName, which states its index."""
    with pytest.raises(InvalidName, match="at index 2") as caught:
        check_name(f"ab{character}c", "step name")
    assert caught.value.what == "step name"
    assert caught.value.value == f"ab{character}c"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is empty"),
        ("x" * (NAME_BYTES_MAX + 1), "is 513 bytes long; the limit is 512"),
        ("é" * (NAME_BYTES_MAX // 2) + "x", "is 513 bytes long; the limit is 512"),
        (None, "is NoneType, not text"),
        (5, "is int, not text"),
        (b"a", "is bytes, not text"),
        (["a"], "is list, not text"),
    ],
)
def test_what_can_never_be_a_name_is_refused_with_the_reason(name: object, reason: str) -> None:
    """An empty, too long or non-text name raises InvalidName with the reason."""
    with pytest.raises(InvalidName, match=reason) as caught:
        check_name(name, "run id")
    assert caught.value.reason == reason


def test_a_long_name_is_cut_in_the_message_and_whole_in_the_error() -> None:
    """A long name is cut in the message of InvalidName and whole in its attribute."""
    with pytest.raises(InvalidName) as caught:
        check_name("x" * 10_000, "run id")
    assert len(str(caught.value)) < 200
    assert caught.value.value == "x" * 10_000


@given(st.text(max_size=40))
def test_the_rule_is_the_unicode_category(text: str) -> None:
    """A text is refused exactly when it is empty or holds a character of a refused category."""
    refused = not text or any(unicodedata.category(each) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for each in text)
    if refused:
        with pytest.raises(InvalidName):
            check_name(text, "run id")
    else:
        assert check_name(text, "run id") == text


@given(names)
def test_every_name_survives_utf_8(name: str) -> None:
    """Every accepted name can be encoded in UTF-8 within the limit and decoded again."""
    assert len(name.encode()) <= NAME_BYTES_MAX
    assert check_name(name, "branch name").encode().decode() == name


class Stage(str, enum.Enum):  # noqa: UP042 - unlike a StrEnum's, its `str()` is not its text
    FIT = "fit"


def test_a_name_of_another_class_of_text_is_the_plain_text_that_it_is() -> None:
    """A name given as an instance of a subclass of `str` becomes plain text."""
    checked = check_name(Stage.FIT, "step name"), check_name("fit", "step name"), child_branch("a", Stage.FIT)
    assert checked == ("fit", "fit", "a.fit")
    assert {type(name) for name in checked} == {str}


@pytest.mark.parametrize("root", [None, "", ROOT])
def test_the_root_branch_has_two_spellings(root: str | None) -> None:
    """Both None and "" mean the root branch."""
    assert check_branch(root) == ROOT


def test_a_branch_name_is_checked_like_any_other() -> None:
    """A branch name follows the rule for names, except that the root may be empty."""
    assert check_branch("fit.a") == "fit.a"
    with pytest.raises(InvalidName, match="branch name"):
        check_branch("fit.\n")
    with pytest.raises(InvalidName, match="branch name 0 is int"):
        check_branch(0)


@pytest.mark.parametrize(
    ("parent", "name", "child"),
    [(ROOT, "a", "a"), ("a", "b", "a.b"), ("a.b", "0.5", "a.b.0.5"), (ROOT, "a.b", "a.b")],
)
def test_a_child_branch_is_named_below_its_parent(parent: str, name: str, child: str) -> None:
    """A child's full name is its parent's name, a dot and its own name; below the root it is its own name alone."""
    assert child_branch(parent, name) == child


def test_the_full_name_of_a_child_keeps_to_the_limit() -> None:
    """The size limit applies to a child's full name."""
    with pytest.raises(InvalidName, match="the limit is 512"):
        child_branch("x" * 300, "y" * 300)


@pytest.mark.parametrize("name", [None, "", 3])
def test_a_child_needs_a_name_of_its_own(name: object) -> None:
    """A child branch without a name raises InvalidName."""
    with pytest.raises(InvalidName, match="branch name"):
        child_branch("a", name)
