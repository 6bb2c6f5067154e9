"""`anabranch params`, and the table of parameters that other commands also show."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from rich.text import Text

from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.document import print_json
from engine.cli.failures import run
from engine.cli.listing import Listing
from engine.cli.options import AsJson, AtPoint, BranchName, Database, RunId, as_point
from engine.cli.provenance import Supplied, supplied_parameters
from engine.cli.terminal import output
from engine.cli.text import branch_text, cell, counted, parameter_text, shortened
from engine.encoding.plain_json import plain
from engine.model import Origin

_HEADERS: Final = "PARAMETER", "KIND", "VALUE", "SET BY", "RULE", "SUPPLIED BY"
_FLEXIBLE: Final = "PARAMETER", "VALUE", "SET BY", "SUPPLIED BY"


def params(
    run_id: RunId,
    *,
    db: Database = DEFAULT_DATABASE,
    branch: BranchName = None,
    at: AtPoint = None,
    json: AsJson = False,
) -> None:
    """Show a branch's parameters, and where each comes from.

    Each parameter was set by an event (branch@version), on this branch or, before the fork, on one above it. If that
    event was a reduction, its rule and the child events that supplied the value are shown, too. Long values are cut;
    --json shows them in full.

    \b
      anabranch params r1 --branch fit.a --at 3
    """
    point = as_point(at)

    async def command() -> None:
        async with existing(db) as engine:
            found = await supplied_parameters(engine, await (await engine.run(run_id)).branch(branch), point)
        if json:
            print_json({"run_id": run_id, "branch": branch or "", "parameters": parameters_document(found)})
        elif found:
            output().show(parameters_table(run_id, found))
        else:
            output().print("no parameters")

    run(command(), as_json=json)


def parameters_document(found: Mapping[str, Supplied]) -> dict[str, Any]:
    """Return parameters by name: `value`, `kind`, `set_by`, `rule` and `supplied_by`."""
    return {
        name: {
            "value": plain(each.parameter.value),
            "kind": each.parameter.kind,
            "set_by": plain(each.set_by),
            "rule": each.rule,
            "supplied_by": plain(each.supplied_by),
        }
        for name, each in found.items()
    }


def parameters_table(run_id: str, found: Mapping[str, Supplied], *, without: Collection[str] = ()) -> Listing:
    """Return a table of parameters: name, kind, value, the event that set it, the rule, and the events behind it.

    Args:
        without: the headers of columns to leave out.
    """
    kept = [header for header in _HEADERS if header not in without]
    rows = (_row(run_id, name, each) for name, each in found.items())
    return Listing(kept, ([row[header] for header in kept] for row in rows), flexible=_FLEXIBLE)


def _row(run_id: str, name: str, each: Supplied) -> dict[str, Text]:
    return {
        "PARAMETER": cell(name, "bold"),
        "KIND": cell(each.parameter.kind, "dim"),
        "VALUE": cell(parameter_text(each.parameter)),
        "SET BY": cell(origin_text(each.set_by, run_id)),
        "RULE": cell(each.rule),
        "SUPPLIED BY": cell(origins_text(each.supplied_by, run_id)),
    }


def origin_text(origin: Origin, run_id: str) -> str:
    """Return `branch@version`, preceded by the run if it is not `run_id`."""
    elsewhere = "" if origin.run_id == run_id else f"{origin.run_id}: "
    return f"{elsewhere}{branch_text(origin.branch)}@{origin.stream_version}"


def origins_text(origins: Iterable[Origin], run_id: str) -> str:
    """Return the branch that supplied a value, or the number and names of several."""
    found = list(origins)
    if not found:
        return "the caller"
    if len(found) == 1:
        return origin_text(found[0], run_id)
    names = ", ".join(branch_text(each.branch) for each in found)
    elsewhere = "" if found[0].run_id == run_id else f" of {found[0].run_id}"  # all are of one reduction
    return shortened(f"{counted(len(found), 'branch', 'branches')}{elsewhere}: {names}")
