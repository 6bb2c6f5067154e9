"""Evidence and files: where artifacts are, and a bundle as JSON."""

import json
from pathlib import Path
from typing import Any, Final

from engine.plain_json import plain

BUNDLE_NAME: Final = "bundle.json"
REPORT_NAME: Final = "report.md"


def artifact(root_path: str | None, relative_path: str | None) -> dict[str, Any] | None:
    """Return where an attempt's artifacts are and whether they exist now, None where the attempt names no place.

    Without a root path the place is not known, nor is whether it exists where the system refuses to look.
    """
    if relative_path is None:
        return None
    if root_path is None:
        return {"path": None, "exists": None}
    path = Path(root_path) / relative_path
    return {"path": str(path), "exists": _exists(path)}


def _exists(path: Path) -> bool | None:
    try:
        return path.exists()
    except (OSError, ValueError):  # a folder that may not be looked into, a name that no file can have
        return None


def as_json(document: Any) -> str:
    """Return what the log holds as JSON text in ASCII: values as in `engine.plain_json`."""
    return json.dumps(plain(document), indent=2, allow_nan=False) + "\n"
