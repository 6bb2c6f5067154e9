"""Which file the URL of a store names, and which URLs are refused."""

from pathlib import Path

import pytest

from engine import open_engine
from engine.errors import InvalidValue


@pytest.mark.parametrize(
    ("quoted", "name"),
    [("my%20runs.db", "my runs.db"), ("a%23b%3Fc.db", "a#b?c.db"), ("%E6%97%A5.db", "日.db"), ("100%.db", "100%.db")],
)
async def test_a_url_names_the_file_that_it_quotes(tmp_path: Path, quoted: str, name: str) -> None:
    """A URL's percent-encoded path is decoded."""
    async with open_engine(f"sqlite:///{tmp_path}/{quoted}"):
        assert (tmp_path / name).is_file()


async def test_a_path_is_no_url(tmp_path: Path) -> None:
    """A plain path is not decoded."""
    async with open_engine(f"{tmp_path}/a%20b#c?d.db"):
        assert (tmp_path / "a%20b#c?d.db").is_file()


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        ("a.db?mode=ro", "has a query or a fragment"),
        ("a.db?", "has a query or a fragment"),
        ("a#b.db", "has a query or a fragment"),
        ("a%FF.db", "is not a URL: .* can't decode byte"),
    ],
)
async def test_what_would_be_left_out_of_a_url_is_refused(tmp_path: Path, rest: str, reason: str) -> None:
    """A URL with a query, a fragment or bytes that are not UTF-8 raises InvalidValue and creates no file."""
    with pytest.raises(InvalidValue, match=reason):
        await open_engine(f"sqlite:///{tmp_path}/{rest}")
    assert list(tmp_path.iterdir()) == []


async def test_what_cannot_be_parsed_is_refused() -> None:
    """A URL that cannot be parsed raises InvalidValue."""
    with pytest.raises(InvalidValue, match="is not a URL"):
        await open_engine("sqlite://[runs/a.db")
