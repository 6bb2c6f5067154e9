"""Drawn histories of a store: runs, forks of both kinds, writes, reductions, attempts, erasures, deletions."""

import contextlib
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from msgspec import Struct

from engine import Branch, Engine
from engine.errors import InvalidValue, NotErasable, ReductionImpossible, RunHasForks, RunIsPinned
from engine.model import Parameter
from tests.property.drawn import DETAILS, RULE_NAMES, SOME_PARAMETERS

MOVES = st.sampled_from(
    [
        "run",
        *["fork"] * 4,
        "fork_run",
        *["set"] * 6,
        *["reduce"] * 4,
        "attempt",
        "status",
        "finalize",
        "erase",
        "delete",
    ]
)


class Move(Struct, frozen=True):
    """One move: `choice` picks its target, and the other fields serve the kinds of move that need them."""

    kind: str
    choice: int
    values: dict[str, Parameter]
    rules: dict[str, str]
    default: str
    on_conflict: str
    details: dict[str, Any]


HISTORIES = st.lists(
    st.builds(
        Move,
        kind=MOVES,
        choice=st.integers(0, 1000),
        values=SOME_PARAMETERS,
        rules=st.dictionaries(st.sampled_from(["x", "y"]), RULE_NAMES, max_size=2),
        default=st.sampled_from(["last", "last", "first", "collect"]),
        on_conflict=st.sampled_from(["child", "parent"]),
        details=DETAILS,
    ),
    min_size=12,
    max_size=40,
)

# The errors with which the engine may refuse a move, depending on the moves before it; a refused move is skipped.
_REFUSED = (InvalidValue, NotErasable, ReductionImpossible, RunHasForks, RunIsPinned)


class Growing:
    """A store that grows move by move."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.branches: list[Branch] = []
        self.opened = 0

    async def grow(self, moves: Sequence[Move]) -> None:
        """Carry out the moves; skip those that the engine refuses."""
        for move in moves:
            if not self.branches:
                await self.run(move)
            with contextlib.suppress(*_REFUSED):
                await getattr(self, move.kind)(move)

    def _at(self, move: Move) -> Branch:
        return self.branches[move.choice % len(self.branches)]

    def _name(self) -> str:
        self.opened += 1
        return f"n{self.opened}"

    async def run(self, move: Move) -> None:
        self.branches.append(await self.engine.create_run(self._name(), parameters=move.values))

    async def fork(self, move: Move) -> None:
        self.branches.append(await self._at(move).fork(self._name()))

    async def fork_run(self, move: Move) -> None:
        source = self._at(move)
        at = 1 + move.choice % (await source.head()).stream_version
        new = await self.engine.fork_run(source.run_id, run_id=self._name(), branch=source.name, at=at)
        self.branches.append(new)

    async def set(self, move: Move) -> None:
        if move.values:
            await self._at(move).set_parameters(move.values)

    async def reduce(self, move: Move) -> None:
        rules: dict[str, Any] = {**move.rules, **({"z": str} if move.choice % 3 == 0 else {})}
        await self._at(move).reduce(rules=rules, default=move.default, on_conflict=move.on_conflict)  # type: ignore[arg-type]

    async def attempt(self, move: Move) -> None:
        async with self._at(move).attempt("train", details=move.details) as attempt:
            await attempt.update(message="half")

    async def status(self, move: Move) -> None:
        await self._at(move).set_status("RUNNING" if move.choice % 2 else "FAILED", "why")

    async def finalize(self, move: Move) -> None:
        await (await self.engine.run(self._at(move).run_id)).finalize()

    async def erase(self, move: Move) -> None:
        branch = self._at(move)
        version = 1 + move.choice % (await branch.head()).stream_version
        await self.engine.erase(branch.run_id, branch.name, version, "asked to", compact=False)

    async def delete(self, move: Move) -> None:
        run_id = self._at(move).run_id
        if len({branch.run_id for branch in self.branches}) > 1:
            await self.engine.delete_run(run_id, "expired", carry_over=move.choice % 2 == 0)
            self.branches = [branch for branch in self.branches if branch.run_id != run_id]


async def grow(engine: Engine, moves: Sequence[Move]) -> None:
    """Record a drawn history."""
    await Growing(engine).grow(moves)
