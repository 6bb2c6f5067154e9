"""The run log store that the runnable host plugs in: `run-log-store: {type: anabranch, config: {path: …}}`.

It accepts and returns the host's own pydantic models and raises the host's own exceptions. The host pickles it into
pool processes, forks with it, and calls it from a running event loop; so it holds only its configuration, and every
process gets its engine from `engine.blocking.shared_engine`.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from msgspec import Struct
from pydantic import ConfigDict, TypeAdapter
from runnable import defaults, exceptions
from runnable.datastore import BaseRunLogStore, BranchLog, JobLog, Parameter, RunLog, StepLog
from typing_extensions import override

from engine import model
from engine.blocking import BlockingEngine, shared_engine
from engine.codec import EVENT_BYTES_MAX
from engine.encoding.values import check_text
from engine.errors import (
    AnabranchError,
    BranchNotFound,
    InvalidValue,
    JobNotFound,
    NotFound,
    RunExists,
    RunNotFound,
    StepNotFound,
)
from engine.names import check_name, dotted_prefixes
from engine.stores.documents import as_parameter
from engine.stores.partitioned import PartitionedRunLogStore
from engine.stores.visible import VisibleParameters

Result = TypeVar("Result")

DEFAULT_PATH = ".anabranch/runs.db"

_PARAMETERS = TypeAdapter(dict[str, Parameter])
_CONFIG = TypeAdapter(dict[str, Any])


class AnabranchRunLogStore(BaseRunLogStore):  # type: ignore[misc] # the host ships no types
    """The host's run log store on an anabranch file.

    Args:
        path: the file, or a URL; created if missing. A relative path is resolved against the current folder.
        inherit: a branch sees its parent's parameters as of its opening. Otherwise a branch has only what was set in
            it, as with the host's own stores.
        event_bytes_max: the largest event accepted, in bytes: a parameter must fit into one event, and so must the
            run's configuration with its whole graph.
    """

    model_config = ConfigDict(extra="forbid")

    service_name: str = "anabranch"
    supports_parallel_writes: bool = True
    path: str = DEFAULT_PATH
    inherit: bool = False
    event_bytes_max: int = EVENT_BYTES_MAX

    @property
    def engine(self) -> BlockingEngine:
        """This process's engine on the file, shared by all such stores."""
        return shared_engine(self.path, event_bytes_max=self.event_bytes_max)

    @override
    def get_summary(self) -> dict[str, Any]:
        """Return the summary of the store that the host prints."""
        return {"Type": self.service_name, "Location": self.path}

    @override
    def create_run_log(
        self,
        run_id: str,
        dag_hash: str = "",
        use_cached: bool = False,
        tag: str = "",
        original_run_id: str = "",
        status: str = defaults.CREATED,
    ) -> RunLog:
        """Open a run and return its log.

        Raises:
            RunLogExistsError
        """
        with _host_errors({RunExists: exceptions.RunLogExistsError(run_id)}):
            log = self._call(
                lambda store: store.create_run_log(run_id, dag_hash, use_cached, tag, original_run_id, status)
            )
        return RunLog.model_validate(_plain(log))

    @override
    def get_run_log_by_id(
        self,
        run_id: str,
        full: bool = False,
    ) -> RunLog:
        """Return a run's log; in full, with its branches in the steps that opened them.

        Raises:
            RunLogNotFoundError
        """
        with _host_errors({RunNotFound: exceptions.RunLogNotFoundError(run_id)}):
            log = self._call(lambda store: store.get_run_log_by_id(run_id, full))
        return RunLog.model_validate(_plain(log))

    @override
    def put_run_log(self, run_log: RunLog) -> None:
        """Record what is new in a run's log; what the log leaves out is unchanged."""
        self._call(lambda store: store.put_run_log(run_log))

    @override
    def update_run_log_status(self, run_id: str, status: str) -> None:
        """Set the run's status.

        Raises:
            RunLogNotFoundError
        """
        with _host_errors({RunNotFound: exceptions.RunLogNotFoundError(run_id)}):
            self._call(lambda store: store.update_run_log_status(run_id, status))

    @override
    def get_parameters(self, run_id: str, internal_branch_name: str = "") -> dict[str, Any]:
        """Return the parameters of the run, or of one of its branches.

        Raises:
            RunLogNotFoundError: no such run.
            EntityNotFoundError: no such branch.
        """

        with _host_errors(_missing_partition(run_id, internal_branch_name)):
            if not self.inherit:
                own = self._call(lambda store: store.get_parameters(run_id, internal_branch_name))
                return _PARAMETERS.validate_python(_plain(own))
            seen, inherited = self._call(lambda store: store.get_visible_parameters(run_id, internal_branch_name))
        values = _PARAMETERS.validate_python(_plain(seen))
        # As the host reads them: an erased value that it gives back is None.
        return VisibleParameters(values, {name: as_parameter(values[name]) for name in inherited})

    @override
    def set_parameters(self, run_id: str, parameters: dict[str, Any], internal_branch_name: str = "") -> None:
        """Merge parameters into those of the run, or of one of its branches; inherited ones in the dict are left out.

        Raises:
            RunLogNotFoundError: no such run.
            EntityNotFoundError: no such branch.
        """
        values = parameters.own() if isinstance(parameters, VisibleParameters) else parameters
        with _host_errors(_missing_partition(run_id, internal_branch_name)):
            self._call(lambda store: store.set_parameters(run_id, values, internal_branch_name))

    @override
    def get_run_config(self, run_id: str) -> dict[str, Any]:
        """Return the run's configuration.

        Raises:
            RunLogNotFoundError
        """
        with _host_errors({RunNotFound: exceptions.RunLogNotFoundError(run_id)}):
            return self._call(lambda store: store.get_run_config(run_id))

    @override
    def set_run_config(self, run_id: str, run_config: Mapping[str, Any]) -> None:
        """Merge keys into the run's configuration.

        Raises:
            RunLogNotFoundError
        """
        config = _dumped(run_config)
        with _host_errors({RunNotFound: exceptions.RunLogNotFoundError(run_id)}):
            self._call(lambda store: store.set_run_config(run_id, config))

    @override
    def get_step_log(self, internal_name: str, run_id: str) -> StepLog:
        """Return a step's log.

        Raises:
            RunLogNotFoundError: no such run, for a step of the root branch.
            StepLogNotFoundError
        """
        branch = _branch_of(internal_name)
        missing = exceptions.StepLogNotFoundError(run_id=run_id, step_name=internal_name)
        no_run = missing if branch else exceptions.RunLogNotFoundError(run_id)
        with _host_errors({RunNotFound: no_run, NotFound: missing}):
            log = self._call(lambda store: store.get_step_log(internal_name, run_id, branch))
        return StepLog.model_validate(_plain(log))

    @override
    def add_step_log(self, step_log: StepLog, run_id: str) -> None:
        """Record a step's log.

        Raises:
            RunLogNotFoundError: no such run.
            EntityNotFoundError: no such branch.
        """
        branch = _branch_of(step_log.internal_name)
        with _host_errors(_missing_partition(run_id, branch)):
            self._call(lambda store: store.add_step_log(step_log, run_id, branch))

    @override
    def get_branch_log(self, internal_branch_name: str, run_id: str) -> BranchLog | RunLog:
        """Return a branch's log; without a name, the run's.

        Raises:
            RunLogNotFoundError, BranchLogNotFoundError
        """
        if not internal_branch_name:
            return self.get_run_log_by_id(run_id)
        missing = exceptions.BranchLogNotFoundError(run_id=run_id, branch_name=internal_branch_name)
        with _host_errors({NotFound: missing}):
            log = self._call(lambda store: store.get_branch_log(internal_branch_name, run_id, full=False))
        return BranchLog.model_validate(_plain(log))

    @override
    def add_branch_log(self, branch_log: BranchLog | RunLog, run_id: str) -> None:
        """Record a branch's log, opening the branch if it is new; or a run's log.

        Raises:
            RunLogNotFoundError: no such run, for a branch.
        """

        async def add(store: PartitionedRunLogStore) -> None:
            parent = await _opener(store, run_id, branch_log.internal_name)
            await store.add_branch_log(branch_log, run_id, parent)

        if not isinstance(branch_log, BranchLog):
            self.put_run_log(branch_log)
            return
        with _host_errors({RunNotFound: exceptions.RunLogNotFoundError(run_id)}):
            self._call(add)

    @override
    def get_job_log(self, run_id: str) -> JobLog:
        """Return the log of the run's job.

        Raises:
            RunLogNotFoundError, JobLogNotFoundError
        """
        no_run, no_job = exceptions.RunLogNotFoundError(run_id), exceptions.JobLogNotFoundError(run_id)
        with _host_errors({RunNotFound: no_run, JobNotFound: no_job}):
            return JobLog.model_validate(_plain(self._call(lambda store: store.get_job_log(run_id))))

    @override
    def add_job_log(self, run_id: str, job_log: JobLog) -> None:
        """Record the log of the run's job; its status becomes the run's.

        Raises:
            RunLogNotFoundError
        """
        with _host_errors({RunNotFound: exceptions.RunLogNotFoundError(run_id)}):
            self._call(lambda store: store.add_job_log(run_id, job_log))

    def _call(self, work: Callable[[PartitionedRunLogStore], Awaitable[Result]]) -> Result:
        return self.engine.call(
            lambda engine: work(PartitionedRunLogStore(engine, inherited=self.inherit, open_missing=False))
        )


@contextmanager
def _host_errors(replacements: Mapping[type[AnabranchError], Exception]) -> Iterator[None]:
    """Replace an error of ours by the host's: the first in the mapping whose key is its type or a base of it."""
    try:
        yield
    except AnabranchError as error:
        for kind, replacement in replacements.items():
            if isinstance(error, kind):
                raise replacement from error
        raise


def _missing_partition(run_id: str, branch: str) -> Mapping[type[AnabranchError], Exception]:
    return {NotFound: exceptions.EntityNotFoundError() if branch else exceptions.RunLogNotFoundError(run_id)}


def _dumped(run_config: object) -> dict[str, Any]:
    if not isinstance(run_config, Mapping):
        raise InvalidValue("run_config", run_config, "is not a mapping")
    plain = {check_text(name, "run_config, a key"): value for name, value in run_config.items()}
    try:
        config: dict[str, Any] = _CONFIG.dump_python(plain, mode="json")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue("run_config", run_config, f"cannot be made into JSON: {error}") from error
    return config


def _branch_of(step: object) -> str:
    # The host forbids dots in node names, so whatever precedes the last dot is the branch.
    return check_name(step, "step name").rpartition(".")[0]


async def _opener(store: PartitionedRunLogStore, run_id: str, branch: str) -> str | None:
    """Return the branch of the step that opened a branch; None if no such step is logged.

    A map's branches are named after values, so `map.1.5` may be a sibling of `map.1`; the logged steps decide.
    """
    for step in dotted_prefixes(branch):
        with suppress(BranchNotFound, StepNotFound):
            await store.get_step_log(step, run_id, _branch_of(step))
            return _branch_of(step)
    return None


def _plain(value: Any) -> Any:
    """Convert a document to the plain values that the host's models validate."""
    if isinstance(value, model.Parameter):
        kind = "json" if value == model.ERASED else value.kind  # the host has no erased values: they read as None
        return {"kind": kind, "value": value.value}
    if isinstance(value, Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value
