"""Hints to what may have been meant by a name that does not exist."""

import difflib
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from engine.cli.text import branch_text, shortened
from engine.errors import shown

SIMILAR_AMONG_MAX: Final = 20_000
"""How many names are searched for similar ones: a fifth of a second."""

_NAMED_MAX: Final = 3


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question that suggests similar names; empty if there are none among the first `SIMILAR_AMONG_MAX`."""
    among = list(islice(known, SIMILAR_AMONG_MAX))
    return _asked(difflib.get_close_matches(name, among, n=_NAMED_MAX))


def did_you_mean_branch(name: str, known: Sequence[str]) -> str:
    """`did_you_mean` for a branch: the nested ones of that name are meant rather than others with a similar one."""
    nested = [each for each in known if each.endswith(f".{name}")]
    return _asked(nested[:_NAMED_MAX]) or did_you_mean(name, known)


def _asked(names: Sequence[str]) -> str:
    return f"did you mean {' or '.join(map(shown, names))}?" if names else ""


def in_branches(names: Sequence[str]) -> str:
    """Return the names of the first few branches, and the number of the others."""
    more = f" and {len(names) - _NAMED_MAX:,} more" if len(names) > _NAMED_MAX else ""
    return f"{', '.join(shortened(branch_text(name)) for name in names[:_NAMED_MAX])}{more} (--branch)"
