"""What the census counts, and the rules that fold the branches' counts into their parent."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, field

from engine import Parameter
from engine.cli.demo.folder import Found

UNREADABLE_NAMED_MAX: Final = 3
"""How many of a branch's unreadable entries are named; all are counted."""

_SUFFIX_CHARACTERS_MAX: Final = 12
_SUFFIXES_MAX: Final = 200


def newest(files: list[dict[str, str]]) -> dict[str, str]:
    """Return the file that was modified last; a custom reduction rule."""
    return max(files, key=lambda file: (file["modified"], file["file"]))


def added(counts: list[dict[str, int]]) -> dict[str, int]:
    """Return the sums of counts by key, without the rarest if there are too many; a custom reduction rule."""
    total: dict[str, int] = {}
    for each in counts:
        for name, count in each.items():
            total[name] = total.get(name, 0) + count
    kept = sorted(total, key=lambda name: (-total[name], name))[:_SUFFIXES_MAX]
    return {name: total[name] for name in sorted(kept)}


RULES: Final[dict[str, str | Callable[[list[Any]], Any]]] = {
    "files": "sum",
    "folders": "sum",
    "others": "sum",
    "bytes": "sum",
    "lines": "sum",
    "unreadable": "sum",
    "largest_bytes": "max",
    "smallest_bytes": "min",
    "files_in": "merge",
    "not_read": "concat",
    "top_level": "collect",
    "bytes_per_entry": "mean",
    "newest_file": newest,
    "suffixes": added,
}
"""How each parameter of a parent comes from those of its children."""


class Tally(Struct):
    """What one branch has counted so far."""

    files: int = 0
    folders: int = 0
    others: int = 0
    bytes: int = 0
    largest: int | None = None
    smallest: int | None = None
    newest: dict[str, str] | None = None
    suffixes: dict[str, int] = field(default_factory=dict)
    problems: list[Found] = field(default_factory=list)

    def add(self, found: Found) -> None:
        """Count one more entry."""
        match found.kind:
            case "file":
                self._add_file(found)
            case "folder":
                self.folders += 1
            case "problem":
                self.problems.append(found)
            case "other":
                self.others += 1

    def _add_file(self, found: Found) -> None:
        self.files += 1
        self.bytes += found.bytes
        self.largest = max(found.bytes, self.largest or 0)
        self.smallest = found.bytes if self.smallest is None else min(found.bytes, self.smallest)
        suffix = Path(found.shown).suffix.lower()[:_SUFFIX_CHARACTERS_MAX]
        self.suffixes[suffix] = self.suffixes.get(suffix, 0) + 1
        dated = [file for file in (self.newest, _dated(found)) if file is not None]
        self.newest = newest(dated) if dated else None

    def parameters(self, shown: str) -> dict[str, Any]:
        """Return the parameters to set on the branch that counted the entry at `shown`."""
        found: dict[str, Any] = {
            "files": Parameter(self.files, "metric"),
            "folders": Parameter(self.folders, "metric"),
            "others": Parameter(self.others, "metric"),
            "bytes": Parameter(self.bytes, "metric"),
            "suffixes": added([self.suffixes]),
        }
        if self.largest is not None and self.smallest is not None:
            found["largest_bytes"] = Parameter(self.largest, "metric")
            found["smallest_bytes"] = Parameter(self.smallest, "metric")
        if self.folders:
            found["files_in"] = {shown: self.files}
        if self.newest:
            found["newest_file"] = self.newest
        return found


def unreadable(problems: list[Found]) -> dict[str, Any]:
    """Return the parameters to set on a branch for entries that could not be read."""
    return {
        "unreadable": Parameter(len(problems), "metric"),
        "not_read": [problem.shown for problem in problems[:UNREADABLE_NAMED_MAX]],
    }


def _dated(found: Found) -> dict[str, str] | None:
    try:
        modified = datetime.fromtimestamp(found.modified, UTC)
    except (OverflowError, ValueError, OSError):
        return None  # a file system may hold times beyond the calendar's range
    return {"file": found.shown, "modified": modified.isoformat(timespec="seconds").replace("+00:00", "Z")}
