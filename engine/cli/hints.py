"""What was meant, perhaps, by what is not there."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Final

from engine.cli.text import branch_text, shortened
from engine.errors import shown

_NAMED_MAX: Final = 3


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the question for names that are much like one; nothing where there is none."""
    close = difflib.get_close_matches(name, list(known), n=_NAMED_MAX)
    return f"did you mean {' or '.join(map(shown, close))}?" if close else ""


def in_branches(names: Sequence[str]) -> str:
    """Return the branches that something is in, counted where they are many."""
    more = f" and {len(names) - _NAMED_MAX:,} more" if len(names) > _NAMED_MAX else ""
    return f"{', '.join(shortened(branch_text(name)) for name in names[:_NAMED_MAX])}{more} (--branch)"
