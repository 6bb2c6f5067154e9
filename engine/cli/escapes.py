"""Characters that a terminal would obey, or a reader could not see, made visible."""

import json
import unicodedata
from typing import Final

# Controls, formats (bidi overrides, zero-width), lone surrogates, line and paragraph separators.
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_DELETE: Final = "\x7f"  # JSON lets it stand as it is


def is_hidden(character: str) -> bool:
    """Say whether a character must not reach a terminal as it is."""
    return unicodedata.category(character) in _HIDDEN


def visible(text: str) -> str:
    """Return `text` in one line with every hidden character escaped as in Python's `ascii`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(ascii(character)[1:-1] if is_hidden(character) else character for character in text)


def json_visible(text: str) -> str:
    """Return JSON text with every hidden character inside it as a JSON escape; line feeds between its parts stay."""
    if text.isascii() and _DELETE not in text:
        return text
    return "".join(
        _json_escaped(character) if is_hidden(character) and character != "\n" else character for character in text
    )


def _json_escaped(character: str) -> str:
    return "\\u007f" if character == _DELETE else json.dumps(character)[1:-1]
