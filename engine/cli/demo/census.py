"""The demo's orchestrator: a census of a folder, recorded as a run while it is taken.

Each top-level entry gets a branch, and each sub-folder one below it; all run concurrently. A branch tries each step up
to twice: the first attempt fails when anything cannot be read, the second counts what cannot be read and goes on. When
its children are done, a branch reduces what they counted; the root does so last.
"""

import os
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar

import anyio
import anyio.to_thread
from msgspec import Struct, field

from engine import Branch, Engine, Parameter, Run
from engine.cli.default_names import dated, first_free
from engine.cli.demo import folder
from engine.cli.demo.folder import Found, Place, Skip
from engine.cli.demo.tally import RULES, Tally, unreadable
from engine.cli.escapes import visible
from engine.cli.failures import first_error
from engine.errors import BranchExists
from engine.model import CANCELLED, COMPLETED, FAILED, RUNNING

ATTEMPTS_MAX: Final = 2
BRANCHES_MAX: Final = 1000
CHILDREN_MAX: Final = 250
EVENT_BYTES_MAX: Final = 16 * 1024 * 1024
"""The limit to open the database with: a reduction names every child for every parameter, and names may be long."""
DEPTH_MAX: Final = 4

_SCANNED_AT_ONCE: Final = 256
_READ_AT_ONCE: Final = 32

Result = TypeVar("Result")


class MadeToFail(Exception):
    """Raised on purpose in one first attempt, so that the demo shows a retry."""


class CannotRead(Exception):
    """A first attempt met entries that cannot be read."""

    def __init__(self, problems: list[Found]) -> None:
        self.problems = problems
        rest = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        super().__init__(f"{problems[0].shown}: {problems[0].problem}{rest}")


class Watcher(Protocol):
    """Receives the progress of the census, on the event loop."""

    def begun(self, entries: list[str]) -> None: ...
    def found(self, entry: str, files: int) -> None: ...
    def read(self, entry: str, files: int) -> None: ...
    def done(self, entry: str) -> None: ...


class Plan(Struct, frozen=True, kw_only=True):
    """What to count and how.

    `depth` is how many levels below the top-level entries get branches of their own; `jobs` is how many branches read
    at once.
    """

    folder: str
    skip: Skip = field(default_factory=Skip)
    depth: int = 2
    jobs: int = 8


async def take_census(engine: Engine, plan: Plan, watcher: Watcher) -> Run:
    """Count the contents of a folder as a run, and return the finalised run.

    Raises:
        OSError: the folder itself cannot be listed.
    """
    run = await _open_run(engine, plan)
    try:
        await _Census(plan, watcher).of_folder(run)
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            if isinstance(error, Exception):
                first = first_error(error)
                await run.set_status(FAILED, visible(f"{type(first).__name__}: {first}"))
            else:
                await run.set_status(CANCELLED, "interrupted")
        raise
    await run.finalize(COMPLETED)
    return run


async def _open_run(engine: Engine, plan: Plan) -> Run:
    return await first_free(
        dated("census"),
        lambda name: engine.create_run(
            name,
            status=RUNNING,
            tag="demo",
            root_path=folder.legible(plan.folder),
            description="a census of a folder",
        ),
    )


class _Census:
    def __init__(self, plan: Plan, watcher: Watcher) -> None:
        self._plan = plan
        self._watcher = watcher
        self._slots = anyio.CapacityLimiter(plan.jobs)
        self._threads = anyio.CapacityLimiter(plan.jobs)
        self._branches = 1
        self._flaky: str | None = None

    async def of_folder(self, run: Run) -> None:
        """Count every top-level entry in a branch of its own, then fold the branches into the root."""

        async def listing(_: int) -> list[Found]:
            return await self._on_thread(folder.entries, self._plan.folder, "", self._plan.skip)

        found = await self._attempted(run, "list", listing, lambda found: {"entries": len(found)})
        entries, rest = found[:CHILDREN_MAX], found[CHILDREN_MAX:]
        self._branches += len(entries)
        children = [await self._fork(run, entry) for entry in entries]
        self._flaky = children[0].name if children else None
        self._watcher.begun([branch.name for branch in children])
        async with anyio.create_task_group() as tasks:
            for branch, entry in zip(children, entries, strict=True):
                tasks.start_soon(self._entry, branch, entry)
            if rest:
                children.append(await run.fork("=rest", status=RUNNING))
                tasks.start_soon(self._count, children[-1], _place(*rest), "=rest")
        await run.reduce(children, rules=RULES)

    async def _entry(self, branch: Branch, entry: Found) -> None:
        await self._look_into(branch, entry, branch.name, self._plan.depth)
        counted = await branch.parameters(names=["bytes"])
        await branch.set_parameters({"top_level": entry.shown, "bytes_per_entry": counted["bytes"]})
        self._watcher.done(branch.name)

    async def _look_into(self, branch: Branch, entry: Found, top: str, depth: int) -> None:
        below = await self._sub_folders(branch, entry) if entry.kind == "folder" and depth > 0 else []
        if not below:
            await self._count(branch, _place(entry), top)
            return
        own = await branch.fork("=files", status=RUNNING)
        children = [own, *[await self._fork(branch, each) for each in below]]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._count, own, _place(entry, below=False), top)
            for child, each in zip(children[1:], below, strict=True):
                tasks.start_soon(self._look_into, child, each, top, depth - 1)
        await branch.reduce(children, rules=RULES)
        await branch.set_status(COMPLETED)

    async def _sub_folders(self, branch: Branch, entry: Found) -> list[Found]:
        async def listing(number: int) -> list[Found]:
            try:
                return await self._on_thread(folder.entries, entry.path, entry.shown, self._plan.skip)
            except OSError:
                if number == ATTEMPTS_MAX:
                    return []  # counted as unreadable by the next step
                raise

        found = await self._attempted(branch, "list", listing, lambda found: {"entries": len(found)})
        below = [each for each in found if each.kind == "folder"]
        if len(below) > CHILDREN_MAX or self._branches + len(below) > BRANCHES_MAX:
            return []
        self._branches += len(below) + 1 if below else 0
        return below

    async def _count(self, branch: Branch, place: Place, top: str) -> None:
        async with self._slots:
            tally = await self._attempted(
                branch,
                "measure",
                lambda number: self._measured(place, top, number),
                lambda tally: {"files": tally.files, "bytes": tally.bytes},
            )
            await branch.set_parameters(tally.parameters(place.starts[0][1]))
            lines, problems = await self._attempted(
                branch, "read", lambda number: self._read(place, top, number), lambda read: {"lines": read[0]}
            )
            problems = [*tally.problems, *problems]
            await branch.set_parameters({"lines": Parameter(lines, "metric"), **unreadable(problems)})
            await branch.set_status(COMPLETED)

    async def _measured(self, place: Place, top: str, number: int) -> Tally:
        tally, found = Tally(), folder.scan(place, self._plan.skip)
        while batch := await self._on_thread(folder.take, found, _SCANNED_AT_ONCE):
            for each in batch:
                tally.add(each)
            if number == 1:
                self._watcher.found(top, sum(each.kind == "file" for each in batch))
        _refuse(tally.problems, number)
        return tally

    async def _read(self, place: Place, top: str, number: int) -> tuple[int, list[Found]]:
        lines = 0
        problems: list[Found] = []
        found = folder.scan(place, self._plan.skip)
        while batch := await self._on_thread(folder.take, found, _READ_AT_ONCE):
            files = [each for each in batch if each.kind == "file"]
            counted, unread = await self._on_thread(folder.count_lines, files)
            lines, problems = lines + counted, problems + unread
            if number == 1:
                self._watcher.read(top, len(files))
        _refuse(problems, number)
        return lines, problems

    async def _attempted(
        self,
        branch: Branch,
        step: str,
        work: Callable[[int], Awaitable[Result]],
        outputs: Callable[[Result], dict[str, Any]],
    ) -> Result:
        for number in range(1, ATTEMPTS_MAX + 1):
            try:
                async with branch.attempt(step, operator_key="census") as attempt:
                    result = await work(number)
                    self._fail_once(branch)
                    await attempt.update(outputs=outputs(result))
                    return result
            except (OSError, CannotRead, MadeToFail):
                if number == ATTEMPTS_MAX:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _fail_once(self, branch: Branch) -> None:
        if branch.name == self._flaky:
            self._flaky = None
            raise MadeToFail("the demo makes this attempt fail, to show a retry")

    async def _fork(self, parent: Branch, entry: Found) -> Branch:
        name = segment = folder.branch_name(entry.path.rpartition(os.sep)[2])
        number = 1
        while True:
            try:
                return await parent.fork(name, status=RUNNING)
            except BranchExists:  # a folder `a` with a folder `b`, next to a file `a.b`: both would be the branch a.b
                number += 1
                name = f"{segment}~{number}"

    async def _on_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self._threads)


def _place(*entries: Found, below: bool = True) -> Place:
    return Place(tuple((entry.path, entry.shown) for entry in entries), below=below)


def _refuse(problems: list[Found], number: int) -> None:
    if problems and number < ATTEMPTS_MAX:
        raise CannotRead(problems)
