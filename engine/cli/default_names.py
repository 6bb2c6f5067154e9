"""Default run ids: a stem and the time, with a number appended while the id is taken: `…-2`, `…-3`."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, TypeVar

from engine.errors import RunExists
from engine.names import NAME_BYTES_MAX

Opened = TypeVar("Opened")

_COUNT_BYTES: Final = len("-999999")


def dated(stem: str, kind: str = "") -> str:
    """Return `STEM-KIND-date-time`; a long stem is cut between characters, to leave room for an appended number."""
    end = f"{kind and f'-{kind}'}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    kept = stem.encode(errors="surrogatepass")[: NAME_BYTES_MAX - _COUNT_BYTES - len(end)]
    return f"{kept.decode(errors='ignore')}{end}"


async def first_free(name: str, opening: Callable[[str], Awaitable[Opened]]) -> Opened:
    """Open a run by the first of the ids `name`, `name-2`, `name-3` … that is free."""
    candidate, number = name, 1
    while True:
        try:
            return await opening(candidate)
        except RunExists:
            number += 1
            candidate = f"{name}-{number}"
