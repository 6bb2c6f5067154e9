"""`anabranch diff`: the differences between two points of a run, two branches, or two runs."""

import sys
import unicodedata
from collections.abc import Mapping
from itertools import takewhile
from typing import Annotated, Any, Final, TypeAlias

import typer
from msgspec import UNSET, Struct
from rich.text import Text

from engine import Engine, Parameter
from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.document import print_json
from engine.cli.escapes import visible
from engine.cli.failures import FAILED, run
from engine.cli.listing import Listing
from engine.cli.options import AsJson, Database
from engine.cli.parameters import origin_text
from engine.cli.places import Named, Place, find_place
from engine.cli.terminal import is_cut, output
from engine.cli.text import CHARACTERS_MAX, branch_cell, cell, counted, parameter_text, shortened, shortened_inside
from engine.encoding.plain_json import plain
from engine.model import ERASED, Origin
from engine.reports.difference import BranchDifference, Difference, FieldDifference, StepOutcome, difference

_SIGN_AND_GAPS_CELLS: Final = 9
_SIDE_CELLS_MIN: Final = 24
"""The width of one side of a difference on a terminal of 80 columns."""

_ALIKE_SHOWN: Final = 12
"""How many characters of the common beginning of two long texts are shown before the first difference."""


_Row: TypeAlias = tuple[str, str, str | None, str | None]
"""One difference: the branch, what differs in it, and both values; None on a side that has none."""


class Compared(Struct, frozen=True):
    """Two places, their differences, and, for different branches, the last event that both share."""

    before: Place
    after: Place
    difference: Difference
    parting: Origin | None


def _side(name: str, what: str, metavar: str) -> Any:
    return typer.Option(name, metavar=metavar, help=what, show_default=False)


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="RUN, RUN@POINT, RUN:BRANCH or RUN:BRANCH@POINT.")],
    b: Annotated[str, typer.Argument(metavar="B", help="What A is compared with; same forms.")],
    *,
    db: Database = DEFAULT_DATABASE,
    a_branch: Annotated[str | None, _side("--a-branch", "The branch of A, given separately.", "BRANCH")] = None,
    a_at: Annotated[str | None, _side("--a-at", "The point of A, given separately.", "POINT")] = None,
    b_branch: Annotated[str | None, _side("--b-branch", "The branch of B, given separately.", "BRANCH")] = None,
    b_at: Annotated[str | None, _side("--b-at", "The point of B, given separately.", "POINT")] = None,
    json: AsJson = False,
) -> None:
    """Show what differs between two points, branches or runs.

    Compares the visible parameters, statuses, steps with their specifications and attempts, and other recorded fields
    such as tags and configuration, of the two branches and all branches below them. Ignores ids, times, folders, and
    operators' names for their jobs. For a run and its fork, also shows the last event that both share. A POINT is a
    stream version (17), a log position (p123), a time (ISO 8601, UTC) or an age (2h).

    If a run's id itself contains @ or :, the longest id that exists is taken; the options avoid the ambiguity. The exit
    code is 0 if nothing differs, else 1. --json has full values, and the whole content of a branch that only one side
    has.

    \b
      anabranch diff r1@17 r1
      anabranch diff r1:fit.a r1:fit.b
    """
    named = Named(a, a_branch, a_at), Named(b, b_branch, b_at)

    async def command() -> int:
        async with existing(db) as engine:
            compared = await _compare(engine, *named)
        print_json(_document(compared)) if json else _print(compared)
        return FAILED if compared.difference else 0

    run(command(), as_json=json)


async def _compare(engine: Engine, a: Named, b: Named) -> Compared:
    before, after = await find_place(engine, a), await find_place(engine, b)
    one, other = before.branch, after.branch
    logs = await one.compile(at=before.at), await other.compile(at=after.at)
    parting = None
    if (one.run_id, one.name) != (other.run_id, other.name):
        parting = await one.parting(other, at=before.at, other_at=after.at)
    return Compared(before, after, difference(*logs), parting)


def _document(compared: Compared) -> dict[str, Any]:
    return {
        "same": not compared.difference,
        "before": _place_document(compared.before),
        "after": _place_document(compared.after),
        "parting": plain(compared.parting),
        **plain(compared.difference),
    }


def _place_document(place: Place) -> dict[str, Any]:
    return {"run_id": place.branch.run_id, "branch": place.branch.name, "at": plain(place.at)}


def _print(compared: Compared) -> None:
    terminal = output()
    if compared.parting is not None:
        shared = origin_text(compared.parting, compared.before.branch.run_id)
        terminal.show(Text(f"their histories part after {shared}", "dim"))
    if not compared.difference:
        terminal.print("nothing differs")
        return
    # Points of one run differ at the end of their names. Each of the four columns gets at least this width.
    cells_max = (terminal.width - _SIGN_AND_GAPS_CELLS) // 4
    sides = (shortened_inside(place.text, cells_max) for place in (compared.before, compared.after))
    headers = "", "BRANCH", "WHAT", *sides
    rows = [row for name, each in compared.difference.branches.items() for row in _rows(name, each)]
    characters_max = _SIDE_CELLS_MIN if is_cut(terminal) else CHARACTERS_MAX
    terminal.show(Listing(headers, (_cells(row, characters_max) for row in rows), flexible=headers[1:]))


def _rows(name: str, branch: BranchDifference) -> list[_Row]:
    if branch.status_before is None or branch.status_after is None:
        # Only one side has the branch: summarise it, `--json` has all of it.
        return [(name, "branch", _summary(branch, branch.status_before), _summary(branch, branch.status_after))]
    rows: list[_Row] = []
    if branch.status_before != branch.status_after:
        rows.append((name, "status", branch.status_before, branch.status_after))
    for parameter, values in branch.parameters.items():
        before, after = _parameter_side(values.before, values.after), _parameter_side(values.after, values.before)
        rows.append((name, f"parameter {visible(parameter)}", before, after))
    rows += _field_rows(name, "", branch.fields)
    for step, outcomes in branch.steps.items():
        said = f"step {visible(step)}"
        if outcomes.before != outcomes.after:
            rows.append((name, said, _outcome_text(outcomes.before), _outcome_text(outcomes.after)))
        rows += _field_rows(name, f"{said}: ", outcomes.fields)
    return rows


def _field_rows(branch: str, of: str, fields: Mapping[str, FieldDifference]) -> list[_Row]:
    return [
        (branch, f"{of}{visible(path)}", _field_text(each.before), _field_text(each.after))
        for path, each in fields.items()
    ]


def _field_text(value: Any) -> str | None:
    if value is UNSET:
        return None
    if isinstance(value, Struct) and not isinstance(value, Parameter):
        value = plain(value)
    return _full_text(value if isinstance(value, Parameter) else Parameter(value))


def _full_text(parameter: Parameter) -> str:
    return parameter_text(parameter, sys.maxsize)


def _summary(branch: BranchDifference, status: str | None) -> str | None:
    if status is None:
        return None
    return f"{status}: {counted(len(branch.parameters), 'parameter')}, {counted(len(branch.steps), 'step')}"


def _cells(row: _Row, characters_max: int) -> tuple[Text, ...]:
    branch, what, before, after = row
    if before is not None and after is not None:
        before, after = distinguished(before, after, characters_max)
    sign, style = ("+", "green") if before is None else ("-", "red") if after is None else ("~", "yellow")
    return cell(sign, style), branch_cell(branch), cell(what), _side_cell(before), _side_cell(after)


def _side_cell(text: str | None) -> Text:
    return cell(None if text is None else shortened(text))


def distinguished(one: str, other: str, characters_max: int) -> tuple[str, str]:
    """Return two texts with their difference visible: a long common beginning is cut, and characters that look alike
    are shown as escapes.
    """
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):
        one, other = (text.encode("ascii", "backslashreplace").decode() for text in (one, other))
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))) - _ALIKE_SHOWN
    if alike > 0 and max(len(one), len(other)) > characters_max:
        return f"…{one[alike:]}", f"…{other[alike:]}"
    return one, other


def _parameter_side(parameter: Parameter | None, other: Parameter | None) -> str | None:
    if parameter is None:
        return None
    kinds = {parameter.kind, parameter.kind if other is None else other.kind}
    kind = f" ({parameter.kind})" if len(kinds) > 1 and ERASED.kind not in kinds else ""
    return f"{_full_text(parameter)}{kind}"


def _outcome_text(outcome: StepOutcome | None) -> str | None:
    if outcome is None:
        return None
    attempts = ", ".join(f"#{index} {status}" for index, status in enumerate(outcome.attempts, start=1))
    return f"{outcome.status} ({attempts})" if attempts else outcome.status
