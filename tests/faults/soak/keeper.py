"""The upkeep of the soak's store: rebuilds, verifications, compactions and collections, while others write."""

from engine import Engine
from tests.faults.soak.hand import Hand
from tests.faults.soak.journal import Move
from tests.faults.soak.upkeep import Collect, Compact, Open, Rebuild, Verify, VerifyViews


class Keeper:
    """One hand's upkeep of an open engine."""

    def __init__(self, hand: Hand, engine: Engine) -> None:
        self._hand = hand
        self._engine = engine
        self._since: str | None = None

    async def turn(self) -> None:
        """Do a random chore; in the first turn, note that the engine was opened."""
        if self._since is None:
            self._since = await self._checkpoint()
            await self._hand.make(self._engine, Open())
            return
        chores: list[Move] = [Collect(), Rebuild(), VerifyViews(), Verify(self._since), Compact()]
        (chore,) = self._hand.chance.choices(chores, weights=[4, 2, 2, 2, 1])
        await self._hand.make(self._engine, chore)
        if isinstance(chore, Verify):
            self._since = await self._checkpoint()

    async def _checkpoint(self) -> str:
        return (await self._engine.checkpoint()).to_json()
