"""`anabranch verify` and `anabranch checkpoint` on the command line."""

import asyncio
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from engine import open_engine
from engine.cli import main
from tests.forger import change, delete_run, rewrite
from tests.integration.test_cli_text import hidden
from tests.tampered import record_three_runs, tampering
from tests.unit.test_checkpoint import written

Command: TypeAlias = Callable[..., tuple[int, str, str]]


@pytest.fixture
def recorded(database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with three runs, named by the environment, on a terminal of 80 columns."""
    monkeypatch.setenv("ANABRANCH_DB", str(database))
    monkeypatch.setenv("COLUMNS", "80")

    async def record() -> None:
        async with open_engine(database) as engine:
            await record_three_runs(engine)

    asyncio.run(record())
    return database


@pytest.fixture
def command(recorded: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command; return its exit code and what it printed on each stream."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(each) for each in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def checkpoint(command: Command, tmp_path: Path) -> Path:
    """A file with a checkpoint of that database."""
    path = tmp_path / "monday.json"
    path.write_text(command("checkpoint")[1])
    return path


def tamper(database: Path, statement: str) -> None:
    with tampering(database) as store:
        store.run(statement)


def error(printed: str) -> str:
    """Return the name of the error in its one line of text."""
    (line,) = printed.splitlines()
    program, name, _ = line.split(": ", 2)
    assert program == "anabranch"
    return name


def test_a_whole_store(command: Command) -> None:
    """`verify` of an intact store prints what it checked, that all is whole, and the root."""
    code, out, _ = command("verify")
    checked, whole, root, views = out.splitlines()
    assert (code, checked) == (0, "checked 15 events in 6 branches of 3 runs")
    assert whole == "intact: every hash, link and reduction verifies"
    assert len(root) == len("root ") + 64
    assert views == "anabranch doctor checks whether the views match"


def test_one_run(command: Command) -> None:
    """`verify RUN` checks that run's events only, and refuses an unknown run."""
    assert command("verify", "q")[1].startswith("checked 2 events in 1 branch of 1 run\n")
    code, _, err = command("verify", "nobody")
    assert (code, error(err)) == (1, "RunNotFound")


def test_problems_are_explained(command: Command, recorded: Path) -> None:
    """`verify` prints each problem in two lines, what and where, then why, and exits with 1."""
    tamper(recorded, "UPDATE events SET payload = x'c1' WHERE position = 7")
    tamper(recorded, "DELETE FROM events WHERE position = 8")
    code, out, _ = command("verify")
    assert code == 1
    assert out.splitlines()[1:] == [
        "3 problems, the first of each broken branch",
        "missing event  position 8",
        "    position 8 is missing",
        "payload  run r, branch b, version 2, position 7",
        "    its payload does not match its hash",
        "missing event  run r, branch a, version 2, position 9",
        "    version 2 is missing: version 3 follows 1",
    ]


def test_problems_as_json(command: Command, recorded: Path) -> None:
    """`verify --json` prints each problem with every field, and exits with the same code."""
    tamper(recorded, "UPDATE events SET payload = x'c1' WHERE position = 7")
    code, out, _ = command("verify", "r", "--json")
    document = json.loads(out)
    assert (code, document["runs"], document["events"]) == (1, 1, 11)
    assert document["problems"] == [
        {
            "kind": "payload",
            "message": "its payload does not match its hash",
            "run_id": "r",
            "branch": "b",
            "stream_version": 2,
            "position": 7,
        }
    ]


@pytest.mark.parametrize("name", ["\x1b[2J\u202e[red]", "\udcff", "a" * 500])
def test_names_that_were_tampered_with_are_shown_safely(command: Command, recorded: Path, name: str) -> None:
    """`verify` prints tampered names without control characters, and its JSON stays valid."""
    with tampering(recorded) as store:
        raw = name.encode("utf-8", "surrogateescape")
        store.connection.execute("UPDATE streams SET run_id = CAST(? AS TEXT) WHERE run_id = 'q'", (raw,))
    code, out, _ = command("verify")
    assert code == 1
    assert hidden(out) == {"\n"}
    code, out, _ = command("verify", "--json")
    assert (code, len(json.loads(out)["problems"])) == (1, 1)


def test_since_a_checkpoint(command: Command, checkpoint: Path) -> None:
    """A checkpoint is one line of JSON, and `verify --since` proves that all it covers is still there."""
    assert json.loads(checkpoint.read_text())["position"] == 15
    assert checkpoint.read_text().count("\n") == 1
    code, out, _ = command("verify", "--since", checkpoint)
    assert (code, out.splitlines()[-1]) == (0, "unchanged since the checkpoint at position 15")


def test_a_checkpoint_is_json_anyway(command: Command, checkpoint: Path) -> None:
    """`checkpoint --json` prints the same document as `checkpoint`, and errors as JSON."""
    made = json.loads(command("checkpoint", "--json")[1])
    assert made | {"created_at": ""} == json.loads(checkpoint.read_text()) | {"created_at": ""}
    code, _, err = command("checkpoint", "--json", "--sign", checkpoint)
    assert (code, json.loads(err)["error"]["type"]) == (1, "InvalidValue")


def test_a_rewrite_since_a_checkpoint(command: Command, checkpoint: Path, recorded: Path) -> None:
    """A careful rewrite passes a plain `verify`; `verify --since` finds it."""
    with tampering(recorded) as store:
        delete_run(store.connection, "f")
        rewrite(store.connection, change(("q", "", 1), tag="forged"))
    assert command("verify")[0] == 0
    code, out, _ = command("verify", "--since", checkpoint)
    assert code == 1
    assert out.splitlines()[2:] == [
        "checkpoint  position 15",
        "    the checkpoint is at position 15, but the log ends at position 13",
    ]


def test_runs_that_were_deleted(command: Command, recorded: Path, tmp_path: Path) -> None:
    """`verify` names deleted runs; one that the checkpoint covers is a problem, with the time and the reason."""
    command("delete", "f", "--reason", "old", "--yes")
    path = tmp_path / "tuesday.json"
    path.write_text(command("checkpoint")[1])
    for arguments in (["verify"], ["verify", "--since", path]):
        code, out, _ = command(*arguments)
        assert (code, out.splitlines()[1]) == (0, "1 run was deleted, according to the store: f")
    command("delete", "q", "--reason", "older", "--yes")
    code, out, _ = command("verify", "--since", path)
    assert (code, out.splitlines()[1]) == (1, "2 runs were deleted, according to the store: q, f")
    assert out.splitlines()[2] == "1 run deleted since the checkpoint"
    when = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"
    assert re.search(f"after the checkpoint, at {when} according to the store: older$", " ".join(out.split()))


def test_a_signed_checkpoint(command: Command, tmp_path: Path) -> None:
    """A signed checkpoint verifies with the right key, and without a key with a note.

    A wrong key, or a changed checkpoint, raises SignatureInvalid.
    """
    private, public = written(ed25519.Ed25519PrivateKey.generate(), tmp_path / "mine")
    _, other = written(ed25519.Ed25519PrivateKey.generate(), tmp_path / "other")
    path = tmp_path / "signed.json"
    path.write_text(command("checkpoint", "--sign", private)[1])
    assert command("verify", "--since", path, "--key", public)[0] == 0
    assert "--key says which" in command("verify", "--since", path)[1]
    code, _, err = command("verify", "--since", path, "--key", other)
    assert (code, error(err)) == (1, "SignatureInvalid")
    path.write_text(path.read_text().replace('"position":15', '"position":14'))
    for key in ([], ["--key", public]):
        code, _, err = command("verify", "--since", path, *key)
        assert (code, error(err)) == (1, "SignatureInvalid")


def test_a_checkpoint_of_another_store(command: Command, checkpoint: Path) -> None:
    """`verify --since` refuses a checkpoint of another store."""
    document: dict[str, Any] = json.loads(checkpoint.read_text())
    checkpoint.write_text(json.dumps(document | {"store_id": "another"}))
    code, out, err = command("verify", "--since", checkpoint)
    assert (code, out, error(err)) == (1, "", "CheckpointOfAnotherStore")


def test_files_that_are_no_checkpoints(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    """A missing, truncated or unsuitable checkpoint or key file is one line of error."""
    (tmp_path / "cut.json").write_text(checkpoint.read_text()[:-20])
    for arguments, name in (
        (["verify", "--since", tmp_path / "nothing"], "FileNotFoundError"),
        (["verify", "--since", tmp_path], "IsADirectoryError"),
        (["verify", "--since", tmp_path / "cut.json"], "InvalidValue"),
        (["verify", "--since", checkpoint, "--key", checkpoint], "InvalidValue"),
        (["verify", "r", "--since", checkpoint], "InvalidValue"),
        (["checkpoint", "--sign", checkpoint], "InvalidValue"),
        (["checkpoint", "--sign", tmp_path / "nothing"], "FileNotFoundError"),
    ):
        code, out, err = command(*arguments)
        assert (code, out, error(err)) == (1, "", name), arguments


def test_a_key_without_a_checkpoint(command: Command, tmp_path: Path) -> None:
    """`verify --key` without `--since` is a usage error."""
    code, _, err = command("verify", "--key", tmp_path / "key")
    assert code == 2
    assert "--since" in err


def test_a_key_that_openssl_made(command: Command, tmp_path: Path) -> None:
    """`checkpoint --sign` and `verify --key` accept an Ed25519 key pair made by openssl."""
    private, public, path = tmp_path / "key.pem", tmp_path / "public.pem", tmp_path / "signed.json"
    try:
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
        subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    except FileNotFoundError:
        pytest.skip("there is no openssl here")
    path.write_text(command("checkpoint", "--sign", private)[1])
    assert command("verify", "--since", path, "--key", public)[0] == 0
