"""Prepares the standard streams, however the command was started."""

import io
import os
import sys
from typing import Final

_MODES: Final = {"stdin": "r", "stdout": "w", "stderr": "w"}


def prepare_streams() -> None:
    """Make the standard streams safe to use.

    - A closed stream is opened on the null device; otherwise the next file opened would get its descriptor number, and
      stray output would go into it.
    - An unbuffered stream gets a buffer: a raw write may write only a part, which `print` does not notice.
    - Characters that the encoding lacks are escaped instead of raising.
    """
    for name, mode in _MODES.items():  # in order of descriptor number, because open takes the lowest free one
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
