"""A survey of a store after a disk fault: whether it opens by itself, and holds all that was acknowledged."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from engine import open_engine
from engine.errors import AnabranchError
from tests.faults.disk.stories import Told


class Found(msgspec.Struct, frozen=True):
    """The events of a store, and its problems."""

    hashes: dict[tuple[str, str, int], str]
    problems: list[str]

    def lost(self, told: Iterable[Told]) -> list[str]:
        """Return the acknowledgements that do not hold."""
        return [str(each) for each in told if not self._holds(each)]

    def _holds(self, told: Told) -> bool:
        if told.what == "gone":
            return (told.run_id, "", 1) not in self.hashes
        found = self.hashes.get((told.run_id, told.branch, told.stream_version))
        return found is not None and (not told.hash or found == told.hash)


async def survey(database: Path) -> Found:
    """Open a database in the usual way, and check every event and every view."""
    hashes = dict[tuple[str, str, int], str]()
    problems = list[str]()
    try:
        async with open_engine(database) as engine:
            async for each in engine.events():
                hashes[each.run_id, each.branch, each.stream_version] = each.hash.hex()
            problems += [str(problem) for problem in (await engine.verify()).problems]
            problems += [str(difference) for difference in await engine.verify_views()]
    except AnabranchError as error:
        problems.append(f"{type(error).__name__}: {error}")
    return Found(hashes, problems)
