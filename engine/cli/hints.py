"""Hints to what may have been meant by a name that does not exist."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Final

from engine.cli.text import branch_text, shortened
from engine.errors import shown

_NAMED_MAX: Final = 3


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question that suggests similar names; empty if there are none."""
    close = difflib.get_close_matches(name, list(known), n=_NAMED_MAX)
    return f"did you mean {' or '.join(map(shown, close))}?" if close else ""


def in_branches(names: Sequence[str]) -> str:
    """Return the names of the first few branches, and the number of the others."""
    more = f" and {len(names) - _NAMED_MAX:,} more" if len(names) > _NAMED_MAX else ""
    return f"{', '.join(shortened(branch_text(name)) for name in names[:_NAMED_MAX])}{more} (--branch)"
