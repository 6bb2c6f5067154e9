"""Evidence as files: where artifacts are, a bundle as JSON, and writing whole files."""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from engine.logs.file_system import make_folders, sync_folder_if_readable
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


def write_whole(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files into a folder, which is created: all under other names first, then renamed in the order given.

    When it returns they are there, also after a power cut, unless the folder may not be read.
    """
    make_folders(folder)
    written: dict[Path, Path] = {}
    try:
        for name, text in texts.items():
            temporary = folder / f".{name}.{secrets.token_hex(8)}"
            written[temporary] = folder / name
            _write_synced(temporary, text)
        for temporary, final in written.items():
            temporary.replace(final)
        sync_folder_if_readable(folder)
    finally:
        for temporary in written:
            temporary.unlink(missing_ok=True)


def _write_synced(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
