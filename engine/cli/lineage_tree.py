"""A lineage as a tree: the value, and below it its sources, the values passed over, and the value it overwrote."""

import shlex
from collections.abc import Iterator
from typing import Final

from rich.text import Text
from rich.tree import Tree

from engine.cli.escapes import visible
from engine.cli.parameters import origin_text
from engine.cli.text import CHARACTERS_MAX, branch_text, counted, parameter_text, shortened, time_text
from engine.lineage import ConflictOutcome, During, Lineage, Written
from engine.model import SUCCEEDED_STATUSES, TERMINAL_STATUSES, Origin, Parameter

_NAME_CHARACTERS_MAX: Final = 40
_VALUE_CHARACTERS_MAX: Final = 24
_PASSED_OVER_SHOWN_MAX: Final = 8


class LineageTree:
    """Draws the lineage of one parameter, and omits the id of the run that the caller looks at."""

    def __init__(self, run_id: str, name: str) -> None:
        self._run_id = run_id
        self._name = name

    def draw(self, found: Lineage, seen_by: str) -> Tree:
        """Return the tree of the value that the branch `seen_by` sees."""
        root = Tree(self._head(found, seen_by), guide_style="dim")
        waiting: list[tuple[Tree, Lineage]] = [(root, found)]
        while waiting:
            drawn, node = waiting.pop()
            waiting += [(drawn.add(self._source(source, node)), source) for source in node.sources]
            for line in self._alternatives(node):
                drawn.add(line)
            if node is found:
                waiting += [(drawn.add(self._earlier(earlier)), earlier) for earlier in node.history]
                for line in self._overwritten(node):
                    drawn.add(line)
        return root

    def _head(self, found: Lineage, seen_by: str) -> Text:
        kind = "" if found.value.kind in ("json", "erased") else f"  {found.value.kind}"
        head = _line(shortened(visible(self._name), _NAME_CHARACTERS_MAX), "bold")
        head.append(" = ").append(_value(found.value, CHARACTERS_MAX), "bold").append(kind, "dim")
        head.append(f"\n{self._where(found)}  {_how(found)}  {time_text(found.recorded_at)}")
        head.append(f"\nhash {found.hash.hex()}", "dim")
        if found.inherited_through:
            points = [Origin(each.run_id, each.branch, each.stream_version) for each in found.inherited_through]
            through = ", ".join(origin_text(point, self._run_id) for point in points)
            head.append(f"\ninherited by {branch_text(seen_by)}, forked at {through}", "dim")
        return head

    def _source(self, source: Lineage, node: Lineage) -> Text:
        taken = "taken  " if node.passed_over else ""
        line = _line(f"{taken}{self._where(source)}", "bold").append(f"  {_value(source.value)}")
        if source.overwrote is not None:
            line.append(f" (was {_value(source.overwrote.value)})", "dim")
        return line.append(f"  {_how(source)}").append(f"  {time_text(source.recorded_at)}", "dim")

    def _alternatives(self, node: Lineage) -> Iterator[Text]:
        for each in node.passed_over[:_PASSED_OVER_SHOWN_MAX]:
            yield _line(f"passed over  {self._where(each)}  {_value(each.value)}  {time_text(each.recorded_at)}", "dim")
        if len(node.passed_over) > _PASSED_OVER_SHOWN_MAX:
            yield _line(f"… and passed over {len(node.passed_over) - _PASSED_OVER_SHOWN_MAX:,} more (--json)", "dim")
        if node.more:
            yield self._more(node)
        for conflict in node.conflicts:
            yield _conflict(conflict)

    def _earlier(self, earlier: Lineage) -> Text:
        text = f"overwrote  {self._where(earlier)}  {_value(earlier.value)}  {_how(earlier)}"
        return _line(text).append(f"  {time_text(earlier.recorded_at)}", "dim")

    def _overwritten(self, found: Lineage) -> Iterator[Text]:
        if not found.history and found.overwrote is not None:
            before = found.overwrote
            text = f"overwrote  {self._where(before)}  {_value(before.value)}  {before.how}"
            yield _line(f"{text}  {time_text(before.recorded_at)}", "dim")
        elif found.history and found.history[-1].overwrote is not None:
            before = found.history[-1].overwrote
            command = f"{self._command(before)} --history"
            yield _whole_line(f"… and earlier values, from {self._where(before)}: see {command}")

    def _more(self, node: Lineage) -> Text:
        more = f"… {counted(node.more, 'more child branch', 'more child branches')}"
        if node.sources:
            return _line(f"{more}, not shown (--json shows more)", "dim")
        return _whole_line(f"{more}: see {self._command(node)}")

    def _command(self, written: Written) -> str:
        """Return the command that shows where a value came from."""
        branch = ("--branch", written.branch) if written.branch else ()
        words = "anabranch", "blame", written.run_id, self._name, *branch, "--at", str(written.stream_version)
        return shlex.join(words)

    def _where(self, written: Written) -> str:
        return origin_text(Origin(written.run_id, written.branch, written.stream_version), self._run_id)


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _whole_line(text: str) -> Text:
    """Return a line that is wrapped instead of cut, so that a command in it can be copied."""
    return Text(text, style="dim", overflow="fold")


def _value(parameter: Parameter, characters_max: int = _VALUE_CHARACTERS_MAX) -> str:
    return parameter_text(parameter, characters_max)


def _how(node: Lineage) -> str:
    during = "" if node.during is None else _during(node.during)
    if node.how in ("set", "copied"):
        return f"{node.how}{during}"
    if node.how == "carried":
        return "carried over from a run that was deleted"
    seen = len(node.sources) + len(node.passed_over)
    if not seen + node.more:
        return f"reduced by {visible(str(node.rule))} from the caller's values{during}"
    branches = counted(seen + node.more, "branch", "branches")
    return f"reduced by {visible(str(node.rule))} from {'up to ' if node.more else ''}{branches}{during}"


def _during(attempt: During) -> str:
    failed = attempt.status in TERMINAL_STATUSES - SUCCEEDED_STATUSES
    outcome = f", which is {visible(attempt.status)}" if failed else ""
    return f" during {visible(attempt.step)} #{attempt.attempt_index}{outcome}"


def _conflict(conflict: ConflictOutcome) -> Text:
    outcome = "taken" if conflict.taken else "not taken"
    base = "" if conflict.base is None else f" (was {_value(conflict.base)})"
    sides = f"child {_value(conflict.child)}, parent {_value(conflict.parent)}{base}"
    return _line(f"conflict with {branch_text(conflict.branch)}, {outcome}: {sides}", "yellow")
