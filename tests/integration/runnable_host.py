"""The real host in separate folders, one with its stock store and one with ours, running the same pipelines."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from extensions.run_log_store.chunked_fs import ChunkedFileSystemRunLogStore

from engine.stores.runnable_plugin import AnabranchRunLogStore

PIPELINES = Path(__file__).parent / "pipelines"

_CONFIGURATION = """
pipeline-executor: {{type: local, config: {{enable_parallel: true}}}}
run-log-store: {{type: {store}, config: {{{options}}}}}
"""
_RUNNABLE = "from runnable.cli import app; app()"
_DIFFERS_BY_NATURE = {"start_time", "end_time", "code_identities", "run_log_store"}


class Host:
    """A folder with the pipelines, the git repository that the host requires, and a configured store."""

    def __init__(self, folder: Path, store: str, **options: object) -> None:
        self.folder = folder
        shutil.copytree(PIPELINES, folder, ignore=shutil.ignore_patterns("__pycache__"))
        written = ", ".join(f"{name}: {value}" for name, value in options.items())
        (folder / "configuration.yaml").write_text(_CONFIGURATION.format(store=store, options=written))
        for arguments in (["init", "--quiet"], ["remote", "add", "origin", "nowhere"], ["add", "."]):
            subprocess.run(["git", *arguments], cwd=folder, check=True)
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, "commit", "--quiet", "--message", "pipelines"], cwd=folder, check=True)

    def start(self, arguments: Sequence[str], run_id: str) -> "subprocess.Popen[str]":
        """Start Python with these arguments in the host's folder."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNNABLE_")}
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**kept, "RUNNABLE_CONFIGURATION_FILE": "configuration.yaml", "RUNNABLE_RUN_ID": run_id},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def run_flow(hosts: Sequence[Host], flow: str, *, fails: bool = False) -> None:
    """Run a pipeline of `flows.py` on every host at once; the run id is the pipeline's name."""
    run(hosts, ["flows.py", flow], flow, fails=fails)


def run_command(hosts: Sequence[Host], *arguments: str, run_id: str) -> None:
    """Run the host's own command line on every host at once."""
    run(hosts, ["-c", _RUNNABLE, *arguments], run_id)


def run(hosts: Sequence[Host], arguments: Sequence[str], run_id: str, *, fails: bool = False) -> None:
    """Run Python on every host at once, and check whether it succeeds or fails as expected."""
    processes = [host.start(arguments, run_id) for host in hosts]
    outputs = [process.communicate(timeout=90)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert (process.returncode != 0) == fails, output


def stock_host(folder: Path) -> Host:
    return Host(folder, "chunked-fs", log_folder="logs")


def our_host(folder: Path, **options: object) -> Host:
    return Host(folder, "anabranch", path="runs.db", **options)


def stock_store(host: Host) -> ChunkedFileSystemRunLogStore:
    return ChunkedFileSystemRunLogStore(log_folder=str(host.folder / "logs"))


@contextmanager
def our_store(host: Host, **options: Any) -> Iterator[AnabranchRunLogStore]:
    """Open the host's store in this process and close it after use."""
    store = AnabranchRunLogStore(path=str(host.folder / "runs.db"), **options)
    try:
        yield store
    finally:
        store.engine.close()


def normalised(log: Any) -> Any:
    """Return a run log as plain values, without the fields that differ between runs."""
    return _without(log.model_dump(mode="json"))


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without(each) for name, each in value.items() if name not in _DIFFERS_BY_NATURE}
    if isinstance(value, list):
        return [_without(each) for each in value]
    return value
