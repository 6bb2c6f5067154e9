"""The entry point of the command line: the commands, parsing, and exit codes for usage errors."""

import sys
from collections.abc import Sequence
from typing import Final

import typer
from typer.exceptions import TyperException

from engine.cli import (
    backup,
    blame,
    demo,
    diff,
    doctor,
    events,
    evidence,
    explain,
    export,
    fork,
    import_,
    parameters,
    rebuild,
    retention,
    runs,
    show,
    steps,
    tail,
    tasks,
    tree,
    verify,
)
from engine.cli.failures import USAGE, leave_quietly, report, report_unwritten
from engine.cli.options import DatabaseInFront, Version
from engine.cli.streams import prepare_streams

_HELP: Final = """Inspect runs recorded by anabranch.

\b
  anabranch demo                 record a census of this folder as a run
  anabranch runs                 list the runs, the last recorded first
  anabranch show RUN             show one run, and where its parameters come from
  anabranch explain RUN          say what failed or is blocked, and why

Every command uses the database given by --db or ANABRANCH_DB (by default anabranch.db in the current folder), accepts
--json, and shows times in UTC. A narrow terminal gets fewer columns, and values that are cut.

In JSON, times are ISO 8601, hashes are hexadecimal, and NaN and the infinities are the strings "NaN", "Infinity" and
"-Infinity". `events --json` prints one object per line.

Exit codes: 0 success; 1 an error, or a check that found differences; 2 wrong usage; 130 interrupted; 141 the reader of
the output has closed it. An error is one line on standard error."""

app = typer.Typer(
    help=_HELP,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


exports = typer.Typer(
    cls=export.ExportGroup,
    help="""Export runs, or the evidence of one run, to files.

\b
  anabranch export RUN... --to FILE            (see anabranch export runs --help)
  anabranch export evidence RUN --to FOLDER""",
    short_help="Export runs or evidence to files.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def in_front(context: typer.Context, *, db: DatabaseInFront = None, version: Version = False) -> None:
    """Pass a `--db` given before the command on to it; `--version` has its own callback."""
    _ = version
    context.obj = db


app.command("demo")(demo.demo)
app.command("runs")(runs.runs)
app.command("show")(show.show)
app.command("tree")(tree.tree)
app.command("diff")(diff.diff)
app.command("fork")(fork.fork)
app.command("events")(events.events)
app.command("tail")(tail.tail)
app.command("params")(parameters.params)
app.command("blame")(blame.blame)
app.command("steps")(steps.steps)
app.command("attempts")(steps.attempts)
app.command("tasks")(tasks.tasks)
app.command("explain")(explain.explain)
exports.command("runs")(export.runs)
exports.command("evidence")(evidence.evidence)
app.add_typer(exports, name="export")
app.command("import")(import_.import_)
app.command("verify")(verify.verify)
app.command("checkpoint")(verify.checkpoint)
app.command("backup")(backup.backup)
app.command("rebuild")(rebuild.rebuild)
app.command("erase")(retention.erase)
app.command("pin")(retention.pin)
app.command("unpin")(retention.unpin)
app.command("delete")(retention.delete)
app.command("gc")(retention.gc)
app.command("compact")(retention.compact)
app.command("doctor")(doctor.doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `anabranch` and return its exit code; see `failures.py` for the codes.

    Args:
        arguments: without the program's name. None takes those of the process, and prepares its standard streams.
    """
    if arguments is None:
        prepare_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(given or ["--help"], prog_name="anabranch", standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        report("UsageError", _one_line(error), as_json="--json" in given)
        return USAGE
    except BrokenPipeError:
        return leave_quietly()
    except OSError as error:  # raised by a command, or by writing the last lines, such as those of --help
        return report_unwritten(error, as_json="--json" in given)
    return code or 0


def _one_line(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    hint = "" if context is None else f" (see {context.command_path} --help)"
    return f"{' '.join(error.format_message().split())}{hint}"
