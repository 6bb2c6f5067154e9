"""Evidence as files: where artifacts are, a bundle as JSON, and writing whole files."""

import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, structs

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
    """Return structs, times and hashes as JSON text in ASCII.

    Times are ISO 8601 in UTC, hashes hexadecimal. NaN and the infinities are `"NaN"`, `"Infinity"` and `"-Infinity"`.
    """
    return json.dumps(_plain(document), indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    match value:
        case Struct():
            return {name: _plain(member) for name, member in structs.asdict(value).items()}
        case dict():
            return {name: _plain(member) for name, member in value.items()}
        case list() | tuple():
            return [_plain(member) for member in value]
        case _:
            return _scalar(value)


def _scalar(value: Any) -> Any:
    match value:
        case bytes():
            return value.hex()
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity"
        case _:
            return value


def without(document: Any, name: str) -> Any:
    """Return JSON without the members of that name, at any depth."""
    match document:
        case dict():
            return {key: without(member, name) for key, member in document.items() if key != name}
        case list():
            return [without(member, name) for member in document]
        case _:
            return document


def differences(found: Any, due: Any, place: str = "") -> Iterator[str]:
    """Yield the places at which two JSON documents differ, such as `tasks[0].status`."""
    if isinstance(found, dict) and isinstance(due, dict):
        for name in sorted({*found, *due}):
            if name in found and name in due:
                yield from differences(found[name], due[name], f"{place}.{name}".lstrip("."))
            else:
                yield f"{place}.{name}".lstrip(".")
    elif isinstance(found, list) and isinstance(due, list) and len(found) == len(due):
        for index, (one, other) in enumerate(zip(found, due, strict=True)):
            yield from differences(one, other, f"{place}[{index}]")
    elif type(found) is not type(due) or found != due:
        yield place


def write_whole(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files into a folder, which is created: all under other names first, then renamed in the order given."""
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[Path, Path] = {}
    try:
        for name, text in texts.items():
            temporary = folder / f".{name}.{secrets.token_hex(8)}"
            written[temporary] = folder / name
            _write_synced(temporary, text)
        for temporary, final in written.items():
            temporary.replace(final)
    finally:
        for temporary in written:
            temporary.unlink(missing_ok=True)


def _write_synced(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
