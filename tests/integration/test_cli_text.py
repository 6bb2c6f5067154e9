"""Recorded values are safe when printed to a terminal, and exact when printed as JSON."""

import io
import json
import math
import unicodedata
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from engine import Parameter, open_engine
from engine.cli import main
from engine.cli.document import json_text
from engine.cli.escapes import visible
from engine.cli.event_text import event_text
from engine.cli.text import duration_text, elapsed_text, shortened_inside, so_far_text, time_text, value_text
from engine.codec import EVENT_TYPES
from engine.encoding.plain_json import plain
from engine.events import (
    AttemptCreated,
    AttemptUpdated,
    BranchForked,
    BranchLogged,
    BranchStatusChanged,
    Event,
    ExternalRunRegistered,
    ExternalRunUpdated,
    JobLogged,
    ParametersReduced,
    ParametersSet,
    PayloadErased,
    RunConfigured,
    RunCreated,
    RunFinalized,
    RunForked,
    RunPinned,
    RunStatusChanged,
    RunUnpinned,
    SourceCarriedOver,
    StepLogged,
    StepRemoved,
    StepStatusChanged,
)
from engine.model import AttemptChanges, Head, Source

_HOSTILE = "\x1b[31m\x9b2J\u202e\u200b\x07[bold]x[/bold] :smile:\n\ud800"
_HASH = bytes(32)

SUMMARIES: list[tuple[Event, str]] = [
    (RunCreated(branch="", tag="t", root_path="/x"), 'CREATED tag="t" root_path="/x"'),
    (RunForked(branch="", source_run_id="r", source_branch="", source_version=3, source_hash=_HASH),
     "from r: (root)@3"),
    (RunStatusChanged(branch="", status="FAILED", reason="no disk"), "FAILED: no disk"),
    (RunConfigured(branch="", config={"a": 1}), "a=1"),
    (JobLogged(branch="", job={"b": None}), '{"b": null}'),
    (RunFinalized(branch="", heads=[Head("", 1, _HASH)]), "heads of 1 stream"),
    (BranchForked(branch="b", parent="a", parent_version=2, parent_hash=_HASH), "from a@2"),
    (BranchLogged(branch="b", details={"k": "v"}), 'k="v"'),
    (BranchStatusChanged(branch="b", status="RUNNING"), "RUNNING"),
    (ParametersSet(branch="b", values={"p": Parameter(math.nan)}), "p=NaN"),
    (ParametersSet(branch="b", values={"p": Parameter(1)}, copied_from=Source("", 7)), "copied from (root)@7: p=1"),
    (
        ParametersReduced(
            branch="",
            children=[Head("b", 2, _HASH)],
            rules={"p": "sum"},
            values={"p": Parameter(3)},
            sources={"p": [Source("b", 2)]},
        ),
        "1 branch: p=3",
    ),
    (ParametersReduced(branch="", children=[Head("b", 2, _HASH)], rules={}, values={}, sources={}), "1 branch"),
    (RunPinned(branch="", reason="a paper"), "a paper"),
    (RunUnpinned(branch=""), ""),
    (SourceCarriedOver(branch="", values={"p": Parameter(3)}), "p=3"),
    (
        PayloadErased(branch="", stream_version=2, event_type="StepLogged", reason="a key", by="me"),
        "v2 StepLogged by me: a key",
    ),
    (StepLogged(branch="b", step="s", name="s", message="hello"), "s CREATED hello"),
    (StepStatusChanged(branch="b", step="s", status="FAILED", reason="x"), "s FAILED: x"),
    (StepRemoved(branch="b", step="s"), "s"),
    (
        AttemptCreated(branch="b", step="s", attempt_id="1", attempt_index=2, operator_key="o"),
        's #2 CREATED operator_key="o"',
    ),
    (
        AttemptCreated(
            branch="b", step="s", attempt_id="1", attempt_index=2, status="RUNNING", step_status="RUNNING"
        ),
        "s #2 RUNNING, its step RUNNING",
    ),
    (
        AttemptUpdated(
            branch="b",
            step="s",
            attempt_id="1",
            changes=AttemptChanges(status="COMPLETED", outputs={"n": Parameter(1)}),
        ),
        "s COMPLETED n=1",
    ),
    (
        AttemptUpdated(
            branch="b",
            step="s",
            attempt_id="1",
            changes=AttemptChanges(status="FAILED", status_reason="x"),
            step_status="FAILED",
        ),
        's FAILED, its step FAILED: x',
    ),
    (ExternalRunRegistered(branch="", task_id="t", operator_type="hpc", status="NEW", external_id="7"),
     't NEW external_id="7"'),
    (ExternalRunUpdated(branch="", task_id="t", status="DONE"), "t DONE"),
]  # fmt: skip


def hidden(text: str) -> set[str]:
    """Return the characters of a text that control a terminal or that a reader cannot see."""
    return {character for character in text if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_nothing_hidden_is_printed(text: str) -> None:
    """`visible` returns no control or invisible character, whatever the text contains."""
    assert hidden(visible(text)) == set()


@example("\x7f")  # JSON does not escape DEL, not even in ASCII output
@given(st.recursive(st.text(alphabet=st.characters(exclude_categories=[])) | st.integers() | st.none(), st.lists))
def test_json_is_exact_and_safe(document: object) -> None:
    """`json_text` parses back to exactly the same document, and contains no control character but newlines."""
    text = json_text(document)

    assert json.loads(text) == document
    assert hidden(text) <= {"\n"}


@pytest.mark.parametrize(("encoding", "text"), [("UTF-8", '"é"'), ("latin-1", '"\\u00e9"')])
def test_json_is_legible_where_it_can_be(monkeypatch: pytest.MonkeyPatch, encoding: str, text: str) -> None:
    """JSON has letters of other languages as they are in a UTF-8 output, and escaped in any other."""
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert json_text("é") == text


def test_json_needs_no_special_parser() -> None:
    """In plain JSON, NaN and the infinities are texts, bytes are hexadecimal, and times are ISO 8601 in UTC."""
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)

    assert plain([math.nan, -math.inf, b"\xff", moment]) == ["NaN", "-Infinity", "ff", "2026-01-31T12:00:00.000000Z"]


@pytest.mark.parametrize(("event", "text"), SUMMARIES, ids=lambda value: type(value).__name__)
def test_an_event_is_summed_up(event: Event, text: str) -> None:
    """`event_text` summarises each event in a few words."""
    assert event_text(event) == text


def test_every_event_has_a_summary() -> None:
    """The cases of `SUMMARIES` cover every event type."""
    assert {type(event) for event, _ in SUMMARIES} == set(EVENT_TYPES.values())


def test_long_values_are_cut() -> None:
    """`value_text` cuts a value at the given length."""
    assert value_text(["x" * 100], 20) == '["xxxxxxxxxxxxxxxxx…'


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0123, "12 ms"),
        (0.9994, "999 ms"),
        (0.9999, "1.00 s"),
        (1.5, "1.50 s"),
        (59.994, "59.99 s"),
        (59.999, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7260, "2 h 01 min"),
        (86_399, "23 h 59 min"),
        (86_400, "1 d 0 h"),
        (3.2 * 86_400, "3 d 4 h"),
    ],
)
def test_durations_have_fitting_units(seconds: float, text: str) -> None:
    """`duration_text` chooses the units by the length of the duration."""
    assert duration_text(seconds) == text


def test_times_have_four_digits_of_the_year() -> None:
    """`time_text` prints the year with four digits, the first year included."""
    assert time_text(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01 00:00:00"


def test_negative_durations_are_not_printed() -> None:
    """`elapsed_text` and `so_far_text` are empty when the end lies before the start."""
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert elapsed_text(moment, moment + timedelta(days=1)) == "1 d 0 h"
    assert elapsed_text(moment, moment) == "0 ms"
    assert elapsed_text(moment, moment - timedelta(microseconds=1)) == ""
    assert so_far_text(moment, moment + timedelta(days=1)) == "1 d 0 h so far"
    assert so_far_text(moment, moment - timedelta(microseconds=1)) == ""


async def _record_hostile(database: Path) -> None:
    async with open_engine(database) as engine:
        run = await engine.create_run("[red]r[/red]", parameters={"p": _HOSTILE.replace("\ud800", "")})
        branch = await run.fork("[link=x]b[/link]")
        with pytest.raises(ValueError, match="bold"):
            async with branch.attempt("[bold]s"):
                raise ValueError(_HOSTILE)
        await run.set_status("FAILED", _HOSTILE.replace("\ud800", ""))


@pytest.fixture
async def hostile(database: Path) -> Path:
    """A database whose names and values contain control characters and markup."""
    await _record_hostile(database)
    return database


@pytest.mark.parametrize("command", ["show", "tree", "events", "params", "steps", "attempts"])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_hostile_names_and_values_stay_text(
    hostile: Path, capsys: pytest.CaptureFixture[str], command: str, options: list[str]
) -> None:
    """The commands escape control characters, and print markup as plain text."""
    assert main([command, "[red]r[/red]", "--db", str(hostile), *options]) == 0

    printed = capsys.readouterr().out
    assert hidden(printed) <= {"\n"}
    assert any(name in printed for name in ("[red]r[/red]", "[link=x]b[/link]", "[bold]x[/bold] :smile:"))


def test_a_long_text_keeps_both_ends() -> None:
    """`shortened_inside` keeps both ends of a long text, and more of its end, where similar names differ."""
    assert shortened_inside("abcdefghijklmnopqrst", 10) == "abc…opqrst"
    assert shortened_inside("abcdefghij", 10) == "abcdefghij"


def test_wide_characters_take_two_cells() -> None:
    """`shortened_inside` counts wide characters as two cells."""
    assert cell_len(shortened_inside("\u6771\u4eac" * 20, 28)) <= 28
