"""Escapes for control characters and invisible characters."""

import json
from typing import Final

from engine.names import is_hidden

_DELETE: Final = "\x7f"  # `json` does not escape it


def visible(text: str) -> str:
    """Return `text` in one line with every hidden character escaped as in Python's `ascii`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(ascii(character)[1:-1] if is_hidden(character) else character for character in text)


def json_visible(text: str) -> str:
    """Return JSON text with every hidden character as a JSON escape; line feeds stay: they only separate its parts."""
    if text.isascii() and _DELETE not in text:
        return text
    return "".join(
        _json_escaped(character) if is_hidden(character) and character != "\n" else character for character in text
    )


def _json_escaped(character: str) -> str:
    return "\\u007f" if character == _DELETE else json.dumps(character)[1:-1]
