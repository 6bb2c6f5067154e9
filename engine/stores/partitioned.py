"""The partitioned run log store: run logs, partitioned by branch, with the method names that hosts call.

None and `""` name the root branch; every other name is a branch with a partition of its own. Writing to a run or branch
that does not exist opens it: a branch is forked from the longest dotted prefix of its name that is open, else from the
root. Each call is one atomic request. The request itself decides what is new in a document; the branch that a name
means, and the children that a call is about, are read just before it.
"""

from collections.abc import Mapping
from typing import Any

from engine.commands import Command, Configure, Finalize, Fork, OpenRun, Reduce, SetStatus
from engine.errors import BranchNotFound, JobNotFound, RunNotFound, StepNotFound
from engine.handles.engine import Engine
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
from engine.turns import listed


class PartitionedRunLogStore:
    """Run logs on an engine. Accepts any objects with the attributes of `engine.stores.documents`.

    Invalid input raises `InvalidInput`, and nothing is recorded.

    Args:
        engine: open; the caller closes it.
        inherited: a branch also has the parameters that it saw at its fork; else only its own.
        open_missing: writing opens a missing run or branch; else it raises RunNotFound or BranchNotFound.
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
        """Return a run's log: only its root branch, or in full with all branches.

        Raises:
            RunNotFound
        """
        check_name(run_id, "run id")
        return await self._views.compile_as(run_document, run_id, nested=full, inherited=self._inherited)

    async def put_run_log(self, run_log: object) -> None:
        """Record what is new in a run's log. What the log leaves out is unchanged.

        Steps that a forked run inherits stay inherited if the log says nothing new about them.
        """
        document = as_document(run_log, RunLog)
        await self._write(document.run_id, *await listed(self._recorder.run(document)))

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
        # The root inherits from the run that its run was forked from, so its parameters belong to it.
        inherited = self._inherited or branch == ROOT
        return await self._views.parameters(run_id, branch, at=None, names=None, inherited=inherited)

    async def get_visible_parameters(
        self, run_id: str, internal_branch_name: str | None = None
    ) -> tuple[dict[str, Parameter], dict[str, Parameter]]:
        """Return all parameters that a branch sees, and the inherited ones among them, both as of one moment.

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
        """Set the parameters of a branch that differ: plain values, or objects with a `kind` and a `value`."""
        branch = check_branch(internal_branch_name)
        merged = self._recorder.parameters(branch, as_parameters(parameters))
        await self._write(run_id, *self._recorder.opening(branch), merged)

    async def copy_parameters_to_branch(self, run_id: str, source_branch: str | None, target_branch: str) -> None:
        """Give a branch the present parameters of another: fork a new branch, which copies nothing, else merge them.

        Neither counts as a write of the branch's own, so a reduction folds none of it.

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
        """Return a step's log from a branch; with None, from the branch that the step's name implies.

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
            branch = await self._branch_of_step(run_id, check_name(document.internal_name, "step name"))
        await self._write(run_id, *self._recorder.opening(branch), *self._recorder.step(branch, document))

    async def get_branch_log(
        self, internal_branch_name: str | None, run_id: str, parent_branch_name: str | None = None, *, full: bool = True
    ) -> BranchLog | RunLog:
        """Return a branch's log with the branches below it; for the root, the run's log.

        Args:
            internal_branch_name: its full name, or its name relative to the parent.
            parent_branch_name: its parent branch.
            full: include the branches below it.

        Raises:
            RunNotFound, BranchNotFound
        """
        if not internal_branch_name:
            return await self.get_run_log_by_id(run_id, full)
        branch = await self._full_name(run_id, internal_branch_name, parent_branch_name)
        return await self._views.compile_branch_as(
            branch_document, run_id, branch, nested=full, inherited=self._inherited
        )

    async def add_branch_log(self, branch_log: object, run_id: str, parent_branch_name: str | None = None) -> None:
        """Record a branch's log, or a run's, opening the branch if it is new.

        Args:
            parent_branch_name: the branch to fork it from; None takes the longest dotted prefix of its name that is
                open.
        """
        if not is_branch_log(branch_log):
            return await self.put_run_log(branch_log)
        document = as_document(branch_log, BranchLog)
        branch = await self._full_name(run_id, document.internal_name, parent_branch_name)
        parent = None if parent_branch_name is None else check_branch(parent_branch_name)
        recorded = await listed(self._recorder.branch(branch, document, parent))
        return await self._write(run_id, *self._recorder.opening(parent or ROOT), *recorded)

    async def get_run_config(self, run_id: str) -> dict[str, Any]:
        """Return a run's configuration.

        Raises:
            RunNotFound
        """
        return await self._views.configuration(check_name(run_id, "run id"))

    async def set_run_config(self, run_id: str, run_config: Mapping[str, Any]) -> None:
        """Merge keys into a run's configuration; only those that differ are recorded."""
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
        """Fold what a branch itself set or reduced into the branch that it was forked from.

        Raises:
            RunNotFound, BranchNotFound
            InvalidValue: the child was not forked from that parent.
        """
        await self._write(run_id, Reduce(branch=check_branch(parent_branch), children=(check_branch(child_branch),)))

    async def compile_branch_results(self, run_id: str, branch_name: str | None) -> None:
        """Reduce all branches below a branch, each into its own parent, the deepest first.

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

    async def _branch_of_step(self, run_id: str, step: str) -> str:
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
        """Return the branches with children, among a branch and those below it; each after all those below it."""
        found, pending = [], [branch]
        while pending:
            parent = pending.pop()
            if children := await self._views.children(check_name(run_id, "run id"), parent):
                found.append(parent)
                pending.extend(children)
        return found[::-1]
