"""`anabranch demo`: a real, parallel workflow that is recorded while it runs, shown, and replayed from its events."""

import shlex
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import Struct
from rich.text import Text

from engine import Engine, Run, open_engine
from engine.cli.counts import Counts, count
from engine.cli.database import DEFAULT_DATABASE
from engine.cli.demo.census import DEPTH_MAX, EVENT_BYTES_MAX, Plan, take_census
from engine.cli.demo.census_progress import CensusProgress
from engine.cli.demo.folder import Skip, legible
from engine.cli.demo.replay import Replay
from engine.cli.document import print_json
from engine.cli.escapes import visible
from engine.cli.failures import FAILED, OK, run
from engine.cli.options import AsJson, Database
from engine.cli.parameters import parameters_document, parameters_table
from engine.cli.progress import event_bars, reporting
from engine.cli.provenance import Supplied, supplied_parameters
from engine.cli.terminal import Terminal, errors, output
from engine.cli.text import counted, duration_text
from engine.cli.tree import branch_tree
from engine.encoding.plain_json import plain
from engine.logs.file_system import resolved
from engine.model import RunLog
from engine.names import is_hidden

_BRANCHES_SHOWN_MAX = 60


class Result(Struct, frozen=True, kw_only=True):
    """What the demo did: `seconds` until the run was finalised, and how its replay differs from it."""

    run_id: str
    log: RunLog
    parameters: dict[str, Supplied]
    counts: Counts
    seconds: float
    replay_seconds: float
    differences: list[str]


def demo(
    folder: Annotated[
        Path,
        typer.Argument(
            exists=True, file_okay=False, metavar="FOLDER", help="What to count.", show_default="the current folder"
        ),
    ] = Path(),
    *,
    db: Database = DEFAULT_DATABASE,
    depth: Annotated[
        int, typer.Option(min=0, max=DEPTH_MAX, metavar="N", help="How many levels of sub-folders get branches.")
    ] = 2,
    jobs: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="How many branches read files at once.")] = 8,
    everything: Annotated[
        bool, typer.Option("--all", help="Also count version control, virtualenvs and caches.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Record a census of a folder as a run, and replay it.

    Every top-level entry is a branch with its sub-folders as branches below it; all run concurrently. One attempt fails
    on purpose and is retried; unreadable files fail attempts, too. The counts are reduced into the parent branches by
    sums, maxima, merged mappings and custom rules. Finally the run is replayed from its events alone, twice: into fresh
    views, and by a fold that is independent of the views. The exit code is 1 unless both agree.

    The run is added to the database, which is created if it does not exist. Nothing in the folder is changed.

    \b
      anabranch demo
      anabranch demo ~/projects --depth 1 --db census.db
    """

    async def command() -> int:
        database = str(resolved(db))
        skip = Skip(frozenset(), (), database) if everything else Skip(database=database)
        plan = Plan(folder=str(resolved(folder)), skip=skip, depth=depth, jobs=jobs)
        async with open_engine(db, event_bytes_max=EVENT_BYTES_MAX) as engine:
            result = await _run(engine, plan)
        print_json(_document(result, plan, db)) if json else _print(output(), result, plan, db)
        return FAILED if result.differences else OK

    run(command(), as_json=json)


async def _run(engine: Engine, plan: Plan) -> Result:
    began = time.perf_counter()
    with CensusProgress(errors()) as progress:
        recorded = await take_census(engine, plan, progress)
    seconds = time.perf_counter() - began
    log = await recorded.compile()
    began = time.perf_counter()
    differences = await _replay(engine, recorded, log)
    return Result(
        run_id=recorded.run_id,
        log=log,
        parameters=await supplied_parameters(engine, recorded),
        counts=count(log),
        seconds=seconds,
        replay_seconds=time.perf_counter() - began,
        differences=differences,
    )


async def _replay(engine: Engine, recorded: Run, live: RunLog) -> list[str]:
    replay = Replay()
    await replay.feed(engine.events(run_id=recorded.run_id))
    differences = replay.differences(live)
    with event_bars() as bars:
        await engine.rebuild(reporting(bars, "replaying"))
    if plain(await recorded.compile()) != plain(live):
        differences.append("the run log compiled from rebuilt views differs from the one compiled from live views")
    return differences


def _document(result: Result, plan: Plan, db: Path) -> dict[str, Any]:
    return {
        "run_id": result.run_id,
        "db": str(db),
        "folder": plan.folder,
        "seconds": result.seconds,
        "counts": plain(result.counts),
        "parameters": parameters_document(result.parameters),
        "replay": {"matched": not result.differences, "differences": result.differences},
    }


def _print(terminal: Terminal, result: Result, plan: Plan, db: Path) -> None:
    counts = result.counts
    terminal.show(
        Text(f"A census of {legible(plan.folder)}, recorded while it was taken:"),
        "",
        branch_tree(result.log, levels=None if counts.branches <= _BRANCHES_SHOWN_MAX else 1),
        "",
        "Its final parameters, and the branches that supplied them:",
        "",
        parameters_table(result.run_id, result.parameters, without=("KIND", "SET BY")),
        "",
        *_numbers(counts, result.seconds),
    )
    terminal.show(*_verdict(result), "", "Inspect it with:", "")
    terminal.out("\n".join(_next_commands(result.run_id, db)), highlight=False)


def _numbers(counts: Counts, seconds: float) -> list[str]:
    recorded = f"{counted(counts.events, 'event')} in {counted(counts.branches, 'branch', 'branches')}"
    return [
        f"Recorded {recorded} in {duration_text(seconds)}: {counts.events / seconds:,.0f} events/s, synced to disk.",
        f"{counted(counts.attempts, 'attempt')} at {counted(counts.steps, 'step')}, {counts.failed_attempts:,} failed.",
    ]


def _verdict(result: Result) -> list[Text]:
    if not result.differences:
        return [
            Text(f"Replayed from its events alone in {duration_text(result.replay_seconds)}: the same run.", "green")
        ]
    lines = [Text("Replayed from its events alone it is NOT the same run:", "bold red")]
    return lines + [Text(f"  {visible(difference)}", "red") for difference in result.differences]


def _next_commands(run_id: str, db: Path) -> list[str]:
    named = "" if db == DEFAULT_DATABASE else f" --db {_quoted(str(db))}"
    return [
        f"  anabranch {command}{named}"
        for command in (f"show {run_id}", f"events {run_id}", f"attempts {run_id} --status FAILED", "runs")
    ]


def _quoted(text: str) -> str:
    """Return a word quoted for a shell; one with hidden characters as bash's `$'…'`, with those escaped."""
    if not any(map(is_hidden, text)):
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{visible(escaped)}'"
