"""The partitioned run log store: run logs, partitioned by branch, under the names that hosts of today call.

Every branch name but None and `""`, which are the root, is a branch with a partition of its own. Writing to a run or a
branch that was never opened opens it: a branch as a fork of the longest dotted prefix of its name that is open, else of
the root. Each call is one request: recorded whole, or not at all. What is new in a document is decided with it.
Which branch a name means, and which parameters or children a call is about, is read just before it.
"""

from collections.abc import Mapping
from typing import Any

from engine.commands import Command, Configure, Finalize, Fork, OpenRun, Reduce, SetStatus
from engine.engine import Engine
from engine.errors import BranchNotFound, JobNotFound, RunNotFound, StepNotFound
from engine.model import CREATED, Parameter
from engine.names import ROOT, check_branch, check_name, dotted_prefixes
from engine.stores.documents import (
    BranchLog,
    JobLog,
    RunLog,
    StepLog,
    as_document,
    as_mapping,
    as_parameters,
    is_branch_log,
)
from engine.stores.reading import branch_document, run_document, step_log
from engine.stores.recording import Recorder, job_document, opening_details, run_created
from engine.stores.twin import checked_engine


class PartitionedRunLogStore:
    """Run logs on an engine. What it takes may be any objects with the attributes of `engine.stores.documents`.

    What cannot be recorded raises `InvalidInput` and records nothing.

    Args:
        engine: open; the caller closes it.
        inherited: a branch has the parameters that it saw at its fork, besides its own; else only its own.
        open_missing: writing opens the run and the branch that are not open; else it raises that they are not there.
    """

    def __init__(self, engine: Engine, *, inherited: bool = True, open_missing: bool = True) -> None:
        self._engine = checked_engine(engine, "BlockingRunLogStore")
        self._views = engine.views
        self._inherited = inherited
        self._recorder = Recorder(open_missing=open_missing, unless="resolved" if inherited else "own")

    async def create_run_log(
        self,
        run_id: str,
        dag_hash: str | None = "",
        use_cached: bool = False,  # noqa: FBT001, FBT002 - the hosts' own signature
        tag: str | None = "",
        original_run_id: str | None = "",
        status: str = CREATED,
    ) -> RunLog:
        """Open a run and return its log.

        Raises:
            RunExists
        """
        document = RunLog(run_id=run_id, dag_hash=dag_hash, tag=tag, status=status)
        event = run_created(document, original_run_id=original_run_id, use_cached=use_cached)
        await self._write(run_id, OpenRun(event=event, details=opening_details(document)))
        return document

    async def get_run_log_by_id(
        self,
        run_id: str,
        full: bool = False,  # noqa: FBT001, FBT002 - as above
    ) -> RunLog:
        """Return a run's log: of its root branch alone, or in full with every branch in it.

        Raises:
            RunNotFound
        """
        check_name(run_id, "run id")
        return run_document(await self._views.compile(run_id, nested=full, inherited=self._inherited))

    async def put_run_log(self, run_log: object) -> None:
        """Record what a run's log says that is not recorded yet. What it leaves out stays as it is.

        So do the steps that a forked run has from its source, where it says of them what is known: they stay the
        source's.
        """
        document = as_document(run_log, RunLog)
        await self._write(document.run_id, *self._recorder.run(document))

    async def update_run_log_status(self, run_id: str, status: str) -> None:
        """Set a run's status."""
        command = SetStatus(status=check_name(status, "status"))
        await self._write(run_id, *self._recorder.opening(ROOT), command)

    async def get_parameters(self, run_id: str, internal_branch_name: str | None = None) -> dict[str, Parameter]:
        """Return the parameters of a branch by name.

        Raises:
            RunNotFound, BranchNotFound
        """
        check_name(run_id, "run id")
        branch = check_branch(internal_branch_name)
        # What the root inherits comes from the run that its run was forked from, and belongs to it.
        inherited = self._inherited or branch == ROOT
        return await self._views.parameters(run_id, branch, at=None, names=None, inherited=inherited)

    async def get_visible_parameters(
        self, run_id: str, internal_branch_name: str | None = None
    ) -> tuple[dict[str, Parameter], dict[str, Parameter]]:
        """Return all that a branch sees, and that of it which only came through its fork, both as of one moment.

        Raises:
            RunNotFound, BranchNotFound
        """
        check_name(run_id, "run id")
        branch = check_branch(internal_branch_name)
        resolved = await self._views.resolved(run_id, branch, at=None)
        inherited = {
            name: parameter
            for name, (parameter, origin) in resolved.items()
            if (origin.run_id, origin.branch) != (run_id, branch)
        }
        return {name: parameter for name, (parameter, _) in resolved.items()}, inherited

    async def set_parameters(
        self, run_id: str, parameters: Mapping[str, Any], internal_branch_name: str | None = None
    ) -> None:
        """Merge into the parameters of a branch what differs from them: plain values, or a `kind` and a `value`."""
        branch = check_branch(internal_branch_name)
        merged = self._recorder.parameters(branch, as_parameters(parameters))
        await self._write(run_id, *self._recorder.opening(branch), merged)

    async def copy_parameters_to_branch(self, run_id: str, source_branch: str | None, target_branch: str) -> None:
        """Let a branch have what another has now: by forking it when it is new, which copies nothing, else by merging.

        Neither way is it a write of the branch's own: a reduction folds none of it.

        Raises:
            RunNotFound, BranchNotFound: the target is open and the source is not.
        """
        source, target = check_branch(source_branch), check_branch(target_branch)
        if self._inherited and target != ROOT and not await self._is_open(run_id, target):
            fork = Fork(branch=target, parent=source, exist_ok=True)
            await self._write(run_id, *self._recorder.opening(source), fork)
        else:
            await self._views.stream(check_name(run_id, "run id"), source)
            await self._write(run_id, *self._recorder.opening(target), self._recorder.copied(source, target))

    async def get_step_log(self, internal_name: str, run_id: str, internal_branch_name: str | None = None) -> StepLog:
        """Return a step's log from a branch; with None, from the branch that its name says.

        Raises:
            RunNotFound, BranchNotFound, StepNotFound
        """
        check_name(run_id, "run id")
        if internal_branch_name is not None:
            return step_log(await self._views.step(run_id, check_branch(internal_branch_name), internal_name))
        for branch in dotted_prefixes(check_name(internal_name, "step name")):
            try:
                return step_log(await self._views.step(run_id, branch, internal_name))
            except (BranchNotFound, StepNotFound):
                continue
        return step_log(await self._views.step(run_id, ROOT, internal_name))

    async def add_step_log(self, step_log: object, run_id: str, internal_branch_name: str | None = None) -> None:
        """Record a step's log in a branch; with None, in the longest dotted prefix of its name that is open."""
        document = as_document(step_log, StepLog)
        branch = check_branch(internal_branch_name)
        if internal_branch_name is None:
            branch = await self._home(run_id, check_name(document.internal_name, "step name"))
        await self._write(run_id, *self._recorder.opening(branch), *self._recorder.step(branch, document))

    async def get_branch_log(
        self, internal_branch_name: str | None, run_id: str, parent_branch_name: str | None = None, *, full: bool = True
    ) -> BranchLog | RunLog:
        """Return a branch's log with the branches below it; for the root, the run's log.

        Args:
            internal_branch_name: its full name, or its name below the parent.
            parent_branch_name: the branch that has it.
            full: False leaves out the branches below it.

        Raises:
            RunNotFound, BranchNotFound
        """
        if not internal_branch_name:
            return await self.get_run_log_by_id(run_id, full)
        branch = await self._full_name(run_id, internal_branch_name, parent_branch_name)
        return branch_document(await self._views.compile_branch(run_id, branch, nested=full, inherited=self._inherited))

    async def add_branch_log(self, branch_log: object, run_id: str, parent_branch_name: str | None = None) -> None:
        """Record a branch's log, or a run's, opening the branch when it is new.

        Args:
            parent_branch_name: the branch to fork it from; None is the longest dotted prefix of its name that is open.
        """
        if not is_branch_log(branch_log):
            return await self.put_run_log(branch_log)
        document = as_document(branch_log, BranchLog)
        branch = await self._full_name(run_id, document.internal_name, parent_branch_name)
        parent = None if parent_branch_name is None else check_branch(parent_branch_name)
        recorded = self._recorder.branch(branch, document, parent)
        return await self._write(run_id, *self._recorder.opening(parent or ROOT), *recorded)

    async def get_run_config(self, run_id: str) -> dict[str, Any]:
        """Return a run's configuration.

        Raises:
            RunNotFound
        """
        return await self._views.configuration(check_name(run_id, "run id"))

    async def set_run_config(self, run_id: str, run_config: Mapping[str, Any]) -> None:
        """Merge into a run's configuration what differs from it, key by key."""
        command = Configure(config=as_mapping(run_config, "run_config"))
        await self._write(run_id, *self._recorder.opening(ROOT), command)

    async def get_job_log(self, run_id: str) -> JobLog:
        """Return the log of a run's job.

        Raises:
            RunNotFound, JobNotFound
        """
        job = (await self.get_run_log_by_id(run_id)).job
        if job is None:
            raise JobNotFound(run_id)
        return job

    async def add_job_log(self, run_id: str, job_log: object) -> None:
        """Record the log of a run's job; its status becomes the run's."""
        job = as_document(job_log, JobLog)
        commands = Configure(job=job_document(job)), SetStatus(status=check_name(job.status, "status"))
        await self._write(run_id, *self._recorder.opening(ROOT), *commands)

    async def reduce_parameters_to_parent(
        self, run_id: str, child_branch: str, parent_branch: str | None = None
    ) -> None:
        """Fold what a branch set itself, or reduced, into the branch that it was forked from.

        Raises:
            RunNotFound, BranchNotFound
            InvalidValue: the child was not forked from that parent.
        """
        await self._write(run_id, Reduce(branch=check_branch(parent_branch), children=(check_branch(child_branch),)))

    async def compile_branch_results(self, run_id: str, branch_name: str | None) -> None:
        """Fold what all branches below a branch set into it: each into its own parent, the deepest first.

        Raises:
            RunNotFound, BranchNotFound
        """
        if parents := await self._parents(run_id, check_branch(branch_name)):
            await self._write(run_id, *(Reduce(branch=parent) for parent in parents))

    async def finalize_run_log(self, run_id: str) -> RunLog:
        """Record the head of every branch of a run, and return its full log.

        Raises:
            RunNotFound
        """
        await self._write(run_id, Finalize())
        return await self.get_run_log_by_id(run_id, True)  # noqa: FBT003 - as above

    async def _write(self, run_id: str, *commands: Command) -> None:
        await self._engine.write(run_id, *commands)

    async def _is_open(self, run_id: str, branch: str) -> bool:
        try:
            await self._views.stream(check_name(run_id, "run id"), branch)
        except (RunNotFound, BranchNotFound):
            return False
        return True

    async def _home(self, run_id: str, step: str) -> str:
        for prefix in dotted_prefixes(step):
            if await self._is_open(run_id, prefix):
                return prefix
        return ROOT

    async def _full_name(self, run_id: str, branch: str, parent: str | None) -> str:
        check_name(branch, "branch name")
        if not parent or branch.startswith(f"{parent}."):
            return branch
        relative = check_branch(f"{parent}.{branch}")
        try:
            return branch if branch in await self._views.children(run_id, check_branch(parent)) else relative
        except (RunNotFound, BranchNotFound):
            return relative

    async def _parents(self, run_id: str, branch: str) -> list[str]:
        """The branches that have children, below one and that one itself: each behind all that are below it."""
        found, pending = [], [branch]
        while pending:
            parent = pending.pop()
            if children := await self._views.children(check_name(run_id, "run id"), parent):
                found.append(parent)
                pending.extend(children)
        return found[::-1]
