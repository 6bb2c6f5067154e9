"""Files of evidence: the places of artifacts, and bundles as JSON."""

import json
from pathlib import Path
from typing import Any, Final

from engine.plain_json import plain

BUNDLE_NAME: Final = "bundle.json"
REPORT_NAME: Final = "report.md"


def artifact(root_path: str | None, relative_path: str | None) -> dict[str, Any] | None:
    """Return the `path` of an attempt's artifacts and whether it `exists`, None if the attempt has no relative path.

    `path` is None if the run has no root path; `exists` is None if it is unknown or the system refuses access.
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
    except (OSError, ValueError):  # no permission for a folder, or an invalid file name
        return None


def as_json(document: Any) -> str:
    """Return a document as JSON text in ASCII, with values as in `engine.plain_json`."""
    return json.dumps(plain(document), indent=2, allow_nan=False) + "\n"
