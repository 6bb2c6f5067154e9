"""`anabranch export`: runs as files, to be imported elsewhere or read by the host's own tools."""

import contextlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from typer.core import TyperGroup
from typing_extensions import override

from engine import Engine
from engine.cli.database import DEFAULT_DATABASE, existing, ids_of_runs
from engine.cli.document import print_json
from engine.cli.escapes import visible
from engine.cli.failures import run
from engine.cli.file_output import standard_output, whole_file
from engine.cli.options import AsJson, Database
from engine.cli.progress import event_bars, reporting
from engine.cli.terminal import errors, output
from engine.cli.text import counted
from engine.logs.file_system import resolved
from engine.logs.own_files import is_own_name
from engine.stores.host_json import host_json


class ExportGroup(TyperGroup):
    """`export RUN` is `export runs RUN`, unless RUN is the name of another kind of export."""

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["runs", *args]
        return super().parse_args(ctx, args)


class Format(StrEnum):
    """What an export holds: events, or compiled logs."""

    JSONL = "jsonl"
    JSON = "json"


def runs(
    run_ids: Annotated[
        list[str] | None, typer.Argument(metavar="RUN", help="The ids of the runs.", show_default=False)
    ] = None,
    *,
    db: Database = DEFAULT_DATABASE,
    every: Annotated[bool, typer.Option("--all", help="Export every run.")] = False,
    kind: Annotated[
        Format, typer.Option("--format", help="Events with their envelopes, or compiled run logs.")
    ] = Format.JSONL,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The file to write, or - for standard output; for run logs also a folder, such as logs/.",
            show_default="-",
        ),
    ] = None,
    with_sources: Annotated[
        bool, typer.Option("--with-sources", help="Include the runs that they were forked from.")
    ] = False,
    compact: Annotated[
        bool, typer.Option("--compact", help="Leave out the events' readable form: up to half the size.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    json: AsJson = False,
) -> None:
    """Export runs: one, several, or all.

    jsonl is for `anabranch import`: one line per event with its position in the run, its id, time, hash, and the bytes
    that were hashed. Exporting the same runs again gives the same bytes. A forked run needs its source, either in the
    file (--with-sources) or in the importing store. Idempotency keys are not exported.

    json is the compiled log as runnable's own store writes it: `runnable timeline FILE` draws it. With several runs, or
    --all, --to is a folder with a file for each run.

    To export a run named `evidence` or `runs`, put `runs` before it: anabranch export runs evidence.

    \b
      anabranch export r1 --to r1.jsonl
      anabranch export --all --to runs.jsonl
      anabranch export r1 --format json --to .run_log_store/r1.json
    """
    if bool(run_ids) == every:
        raise typer.BadParameter("give either RUN... or --all")
    target = None if to is None or to == "-" else Path(to)
    # With --all also for one run: where it goes must not depend on how many there are by then.
    several = every or len({*(run_ids or ())}) > 1
    is_folder = target is not None and (several or str(to).endswith("/") or target.is_dir())

    async def command() -> None:
        if target is not None and _is_of_database(target, db):
            raise typer.BadParameter("--to names the database itself, or one of the files that belong to it")
        # A link that was named leads to the file that is meant, as for cp and editors.
        place = resolved(target) if target is not None and force and target.is_symlink() else target
        async with existing(db) as engine:
            if kind is Format.JSONL:
                chosen = None if every else run_ids
                await _export_events(
                    engine, chosen, place, with_sources=with_sources, readable=not compact, force=force
                )
                written, what = target, ""
            else:
                files = _log_files(await _named(engine, run_ids), place, is_folder=is_folder)
                await _export_logs(engine, files, force=force)
                written = target if several else next(iter(files.values()))
                what = f"{counted(len(files), 'run log')} into " if several else ""
        if written is not None:
            _tell(what, written, json=json)

    run(command(), as_json=json)


def _is_of_database(path: Path, db: Path) -> bool:
    if path.exists() and db.exists() and path.samefile(db):
        return True
    one, other = resolved(path), resolved(db)
    return one.parent == other.parent and is_own_name(one.name, other.name)


async def _export_events(
    engine: Engine, run_ids: list[str] | None, target: Path | None, *, with_sources: bool, readable: bool, force: bool
) -> None:
    opened = standard_output() if target is None else whole_file(target, overwrite=force)
    on_terminal = target is None and output().is_terminal  # a bar would be mixed up with the lines
    with event_bars(shown=not on_terminal) as bars, opened as file:
        found = engine.export_runs(
            run_ids, with_sources=with_sources, readable=readable, progress=reporting(bars, "exporting")
        )
        async with contextlib.aclosing(found):
            async for lines in found:
                file.write(lines)


async def _named(engine: Engine, asked: list[str] | None) -> list[str]:
    """Return the requested run ids without duplicates, or all run ids if none is requested."""
    return list(dict.fromkeys(asked)) if asked else [run_id async for run_id in ids_of_runs(engine)]


def _log_files(run_ids: Sequence[str], target: Path | None, *, is_folder: bool) -> dict[str, Path | None]:
    """Return the file of each run's log; None is standard output."""
    if target is not None and is_folder:
        return {run_id: target / _file_name(run_id) for run_id in run_ids}
    if len(run_ids) > 1:
        raise typer.BadParameter("several run logs need --to FOLDER")
    return dict.fromkeys(run_ids, target)


async def _export_logs(engine: Engine, files: Mapping[str, Path | None], *, force: bool) -> None:
    for run_id, path in files.items():
        text = await host_json(engine, run_id)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        with standard_output() if path is None else whole_file(path, overwrite=force) as file:
            file.write(text.encode())


def _file_name(run_id: str) -> str:
    """Return a run's file name: unique to the run, without slashes, and within the length limit of file names."""
    # An id may be any text: one with slashes is quoted, and so is one that could be mistaken for a quoted id.
    name = quote(run_id, safe=_FILE_NAME_CHARACTERS) if "/" in run_id or "%" in run_id else run_id
    if len(name.encode()) > _FILE_NAME_BYTES_MAX:
        digest = blake2b(run_id.encode(), digest_size=16).hexdigest()
        name = f"{name.encode()[:_CUT_TO_BYTES].decode(errors='ignore')}%~{digest}"  # quoting never produces %~
    return f"{name}.json"


_FILE_NAME_CHARACTERS: Final = " !#$&'()+,;=@[]{}~"
_FILE_NAME_BYTES_MAX: Final = 250  # 255 with the suffix
_CUT_TO_BYTES: Final = 100


def _tell(what: str, target: Path, *, json: bool) -> None:
    if json:
        print_json({"written": str(target)})
    else:
        errors().print(f"wrote {what}{visible(str(target))}", soft_wrap=True)
