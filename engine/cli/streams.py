"""The standard streams as every command needs them, however the command was started."""

import io
import os
import sys
from typing import Final

_MODES: Final = {"stdin": "r", "stdout": "w", "stderr": "w"}


def prepare_streams() -> None:
    """Make the standard streams ones that can be used.

    What was started with a stream closed reads or writes nothing there, and opens no file under its number, into which
    a stray line would go. What Python was told not to buffer is written whole all the same, or fails: an unbuffered
    stream takes as much as there is room for, and says how much, which nobody looks at. A name that the terminal's
    encoding lacks is no error.
    """
    for name, mode in _MODES.items():  # in the order of their numbers: the lowest that is free is the next one's
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - open to the end
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if isinstance(stream.buffer, io.RawIOBase):
            buffered = io.BufferedWriter(stream.buffer)
            stream = io.TextIOWrapper(buffered, encoding=stream.encoding, line_buffering=True)
            setattr(sys, name, stream)
        stream.reconfigure(errors="backslashreplace")
