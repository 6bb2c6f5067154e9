"""`anabranch show`: one run at a glance."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from rich.text import Text

from engine import Engine
from engine.cli.counts import Counts, count
from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.document import print_json
from engine.cli.escapes import visible
from engine.cli.failures import run
from engine.cli.options import AsJson, AtPoint, Database, RunId, as_point
from engine.cli.parameters import origin_text, parameters_document, parameters_table
from engine.cli.provenance import Supplied, supplied_parameters
from engine.cli.terminal import facts, output
from engine.cli.text import cell, counted, elapsed_text, status, time_text, value_text
from engine.encoding.plain_json import plain
from engine.events import RunFinalized, RunForked
from engine.model import Origin, RunInfo
from engine.point import Point
from engine.reports.standing import job_state


class Finalized(Struct, frozen=True):
    """The last finalisation of a run: its time, and the hash that commits to the whole run."""

    at: datetime
    stream_version: int
    hash: bytes
    streams: int


class Milestones(Struct):
    """Events of the root stream that concern the run as a whole."""

    forked_from: Origin | None = None
    finalized: Finalized | None = None


class Overview(Struct, frozen=True):
    info: RunInfo
    milestones: Milestones
    counts: Counts
    job: str
    inherited_steps: int
    parameters: dict[str, Supplied]


def show(run_id: RunId, *, db: Database = DEFAULT_DATABASE, at: AtPoint = None, json: AsJson = False) -> None:
    """Show one run: its status, counts and parameters.

    Each parameter is shown with the event that set it (branch@version) and, if that was a reduction, the rule and the
    child events that supplied the value. The hash of a finalised run commits to every event up to the finalisation.

    With --at, shows the run as of that point. A version is one of the root branch, and includes all events of the run
    that were recorded before it.

    \b
      anabranch show r1 --at 17
    """
    point = as_point(at)

    async def command() -> None:
        async with existing(db) as engine:
            overview = await _overview(engine, run_id, point)
        print_json(_document(overview)) if json else _print(overview)

    run(command(), as_json=json)


async def _overview(engine: Engine, run_id: str, point: Point) -> Overview:
    handle = await engine.run(run_id)
    log = await handle.compile(at=point, inherited=False)
    return Overview(
        info=await handle.info(at=point),
        milestones=await _milestones(engine, run_id, log.stream_version),
        counts=count(log),
        job="" if log.job is None else job_state(log.job),
        inherited_steps=sum(step.inherited_from is not None for step in log.steps.values()),
        parameters=await supplied_parameters(engine, handle, point),
    )


async def _milestones(engine: Engine, run_id: str, until_version: int) -> Milestones:
    found = Milestones()
    types = RunForked, RunFinalized
    async for recorded in engine.events(run_id=run_id, branch="", types=types):
        if recorded.stream_version > until_version:
            continue
        match recorded.event:
            case RunForked() as event:
                found.forked_from = Origin(event.source_run_id, event.source_branch, event.source_version)
            case RunFinalized(heads=heads):
                found.finalized = Finalized(recorded.recorded_at, recorded.stream_version, recorded.hash, len(heads))
            case _:
                raise AssertionError("no other type was asked for")
    return found


def _document(overview: Overview) -> dict[str, Any]:
    return {
        **plain(overview.info),
        **plain(overview.milestones),
        "counts": plain(overview.counts),
        "job": overview.job,
        "inherited_steps": overview.inherited_steps,
        "parameters": parameters_document(overview.parameters),
    }


def _print(overview: Overview) -> None:
    terminal = output()
    terminal.show(facts(_facts(overview)))
    if overview.parameters:
        terminal.show("", parameters_table(overview.info.run_id, overview.parameters, without=("KIND",)))


def _facts(overview: Overview) -> list[tuple[str, Text]]:
    info, milestones = overview.info, overview.milestones
    rows = [("run", cell(info.run_id, "bold")), ("status", status(info.status)), ("reason", cell(info.status_reason))]
    rows += [("pinned", cell("yes" if info.pinned else "")), ("tag", cell(info.tag))]
    rows += [(f"tags.{visible(name)}", cell(value_text(value))) for name, value in info.tags.items()]
    rows += [
        ("about", cell(info.description)),
        ("workspace", cell(info.workspace_slug)),
        ("folder", cell(info.root_path)),
    ]
    rows.append(("created", cell(f"{time_text(info.created_at)} UTC")))
    if info.status_changed_at is not None:
        elapsed = elapsed_text(info.created_at, info.status_changed_at)
        later = f", {elapsed} later" if elapsed else ""
        rows.append((visible(info.status.lower()), cell(f"{time_text(info.status_changed_at)} UTC{later}")))
    if milestones.forked_from is not None:
        rows.append(("forked from", cell(origin_text(milestones.forked_from, info.run_id))))
    if milestones.finalized is not None:
        rows.append(("finalised", cell(f"{time_text(milestones.finalized.at)} UTC, {_streams(milestones.finalized)}")))
        rows.append(("hash", Text(milestones.finalized.hash.hex())))
    rows += [("job", cell(overview.job)), ("holds", cell(_counts_text(overview)))]
    return [(name, text) for name, text in rows if text.plain]


def _streams(finalized: Finalized) -> str:
    return f"with the heads of {counted(finalized.streams, 'stream')}"


def _counts_text(overview: Overview) -> str:
    counts = overview.counts
    inherited = f" ({overview.inherited_steps:,} inherited)" if overview.inherited_steps else ""
    failed = f" ({counts.failed_attempts:,} failed)" if counts.failed_attempts else ""
    return (
        f"{counted(counts.events, 'event')}, {counted(counts.branches, 'branch', 'branches')},"
        f" {counted(counts.steps, 'step')}{inherited}, {counted(counts.attempts, 'attempt')}{failed}"
    )
