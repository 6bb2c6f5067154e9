"""A host of the soak: it opens runs, writes to their branches, reduces, ends them, and erases or deletes some.

It asks the store for its open runs when it begins, like a host that was killed.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from msgspec import Struct, field

from engine import Engine
from engine.codec import derived_id
from engine.errors import RunNotFound
from engine.events import ParametersSet
from engine.model import COMPLETED, FAILED, RUNNING, TERMINAL_STATUSES, BranchLog, RunLog
from engine.names import ROOT, child_branch
from tests.faults.soak.hand import Hand
from tests.faults.soak.journal import Move
from tests.faults.soak.moves import (
    SHARED,
    CreateRun,
    EndAttempt,
    EndRun,
    Fork,
    ForkRun,
    LogStep,
    Reduce,
    SetParameters,
    StartAttempt,
)
from tests.faults.soak.upkeep import DeleteRun, Erase

RUNS_OPEN_MAX: Final = 3
BRANCHES_MAX: Final = 8
MOVES_PER_RUN: Final = 40
NAMES: Final = tuple("abcdefgh")
RULES: Final = ("last", "first", "max", "sum", "collect")
BIG_CHARACTERS: Final = 20_000


class OpenRun(Struct):
    """A run in progress: its branches with their parents, and its unfinished attempts with their branches."""

    run_id: str
    parents: dict[str, str | None] = field(default_factory=lambda: {ROOT: None})
    attempts: dict[str, str] = field(default_factory=dict)
    moves: int = 0

    def children(self, branch: str) -> list[str]:
        return [name for name, parent in self.parents.items() if parent == branch]


class Host:
    """One hand's work on an open engine."""

    def __init__(self, hand: Hand, engine: Engine) -> None:
        self._hand = hand
        self._chance = hand.chance
        self._engine = engine
        self._runs: list[OpenRun] | None = None
        self._errand: Iterator[Move] = iter(())

    async def turn(self) -> None:
        """Make the next move, if there is one."""
        if self._runs is None:
            self._runs = await self._found_open()
        move = await self._draw(self._runs)
        if move is not None and not await self._hand.make(self._engine, move) and isinstance(move, ForkRun):
            self._runs.pop()  # the source was deleted meanwhile

    async def _draw(self, runs: list[OpenRun]) -> Move | None:
        move = next(self._errand, None)
        if move is not None:
            return move
        if len(runs) < RUNS_OPEN_MAX:
            return await self._open(runs)
        if self._chance.random() < 0.03:
            return await self._delete()
        if self._chance.random() < 0.02:
            self._errand = self._in_the_shared_run()
            return next(self._errand)
        return await self._in(self._chance.choice(runs), runs)

    async def _found_open(self) -> list[OpenRun]:
        found = await self._engine.runs(tag=self._hand.name, status=RUNNING)
        return [_as_open(await (await self._engine.run(each.run_id)).compile()) for each in found]

    async def _open(self, runs: list[OpenRun]) -> Move:
        run_id = self._hand.next_key
        move = await self._fork_run(run_id) if self._chance.random() < 0.3 else None
        runs.append(OpenRun(run_id))
        return move or CreateRun(run_id, self._hand.name, self._values())

    async def _fork_run(self, run_id: str) -> Move | None:
        """Return a fork of any run that has ended and is no fork itself, at a random version of its root branch."""
        ended = [each for each in await self._engine.runs(status=COMPLETED, limit=30) if each.original_run_id is None]
        if not ended:
            return None
        source = self._chance.choice(ended).run_id
        try:
            head = await (await self._engine.run(source)).head()
        except RunNotFound:
            return None
        return ForkRun(run_id, self._hand.name, source, ROOT, self._chance.randint(1, head.stream_version))

    async def _delete(self) -> Move | None:
        ended = await self._engine.runs(tag=self._hand.name, status=COMPLETED, limit=10)
        if not len(ended):
            return None
        return DeleteRun(self._chance.choice(ended.runs).run_id, carry_over=self._chance.random() < 0.7)

    def _in_the_shared_run(self) -> Iterator[Move]:
        """Fork the shared run, write to the branch and to the root, and reduce the branch into the root."""
        name = self._hand.next_key
        yield Fork(SHARED, ROOT, name)
        for _ in range(3):
            yield SetParameters(SHARED, name, self._values())
        yield SetParameters(SHARED, ROOT, {self._chance.choice(NAMES): self._number()})
        yield Reduce(SHARED, ROOT, [name], {})

    async def _in(self, run: OpenRun, runs: list[OpenRun]) -> Move | None:
        run.moves += 1
        if run.moves > MOVES_PER_RUN:
            runs.remove(run)
            return EndRun(run.run_id, COMPLETED)
        moves: list[Callable[[OpenRun], Any]] = [self._set, self._fork, self._reduce, self._start, self._end, self._log]
        (move,) = self._chance.choices(moves, weights=[8, 3, 2, 4, 4, 2])
        if self._chance.random() < 0.02:
            return await self._erase(run)
        made: Move | None = move(run)
        return made

    def _set(self, run: OpenRun) -> Move:
        return SetParameters(run.run_id, self._chance.choice(list(run.parents)), self._values())

    def _fork(self, run: OpenRun) -> Move | None:
        if len(run.parents) == BRANCHES_MAX:
            return None
        parent, name = self._chance.choice(list(run.parents)), f"b{len(run.parents)}"
        run.parents[child_branch(parent, name)] = parent
        return Fork(run.run_id, parent, name)

    def _reduce(self, run: OpenRun) -> Move | None:
        branch = self._chance.choice(list(run.parents))
        children = run.children(branch)
        if not children:
            return None
        self._chance.shuffle(children)
        rules = {name: self._chance.choice(RULES) for name in NAMES[:4]}
        return Reduce(run.run_id, branch, children, rules)

    def _start(self, run: OpenRun) -> Move:
        branch, step = self._chance.choice(list(run.parents)), self._chance.choice(("fetch", "train", "score"))
        attempt = derived_id(run.run_id, self._hand.next_key)
        run.attempts[attempt] = branch
        return StartAttempt(run.run_id, branch, step)

    def _end(self, run: OpenRun) -> Move | None:
        if not run.attempts:
            return None
        attempt, branch = run.attempts.popitem()
        return EndAttempt(run.run_id, branch, attempt, self._chance.choice((COMPLETED, FAILED)))

    def _log(self, run: OpenRun) -> Move:
        branch, step = self._chance.choice(list(run.parents)), self._chance.choice(("report", "train"))
        return LogStep(run.run_id, branch, step, self._chance.choice((RUNNING, COMPLETED)))

    async def _erase(self, run: OpenRun) -> Move | None:
        events = [each async for each in self._engine.events(run_id=run.run_id, types=[ParametersSet])]
        if not events:
            return None
        chosen = self._chance.choice(events)
        return Erase(run.run_id, chosen.branch, chosen.stream_version)

    def _values(self) -> dict[str, Any]:
        """Return values that no other move writes, which shows where each came from."""
        return {name: self._value(name) for name in self._chance.sample(NAMES, self._chance.randint(1, 3))}

    def _value(self, name: str) -> Any:
        if name in NAMES[:4]:
            return self._number()
        text = f"{self._hand.name} {self._number()}"
        return text.ljust(BIG_CHARACTERS, ".") if self._chance.random() < 0.01 else [text]

    def _number(self) -> int:
        return self._chance.getrandbits(40)


def _as_open(log: RunLog) -> OpenRun:
    run = OpenRun(log.run_id, moves=log.stream_version)
    _add(run, log)
    return run


def _add(run: OpenRun, log: BranchLog) -> None:
    for step in log.steps.values():
        # Without the attempts carried over from a source, of which the model knows only the number.
        own = [each for each in step.attempts if each.attempt_id == derived_id(run.run_id, str(each.operator_key))]
        run.attempts |= {each.attempt_id: log.branch for each in own if each.status not in TERMINAL_STATUSES}
    for name, branch in log.branches.items():
        run.parents[name] = log.branch
        _add(run, branch)
