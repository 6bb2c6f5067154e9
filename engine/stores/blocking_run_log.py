"""The partitioned run log store for synchronous callers."""

from typing_extensions import override

from engine.handles.engine import Engine
from engine.stores.partitioned import PartitionedRunLogStore
from engine.stores.twin import BlockingTwin, blocking


class BlockingRunLogStore(BlockingTwin[PartitionedRunLogStore]):
    """`PartitionedRunLogStore` on a file, with blocking calls from any thread; picklable, and safe to fork.

    Args:
        path: a SQLite file, or a URL; created if missing. A relative path is resolved against the current folder now.

    Raises (from its first call on):
        CannotOpen, StoreUnavailable
    """

    @override
    def _store(self, engine: Engine) -> PartitionedRunLogStore:
        return PartitionedRunLogStore(engine)

    create_run_log = blocking(PartitionedRunLogStore.create_run_log)
    get_run_log_by_id = blocking(PartitionedRunLogStore.get_run_log_by_id)
    put_run_log = blocking(PartitionedRunLogStore.put_run_log)
    update_run_log_status = blocking(PartitionedRunLogStore.update_run_log_status)
    get_parameters = blocking(PartitionedRunLogStore.get_parameters)
    set_parameters = blocking(PartitionedRunLogStore.set_parameters)
    copy_parameters_to_branch = blocking(PartitionedRunLogStore.copy_parameters_to_branch)
    get_step_log = blocking(PartitionedRunLogStore.get_step_log)
    add_step_log = blocking(PartitionedRunLogStore.add_step_log)
    get_branch_log = blocking(PartitionedRunLogStore.get_branch_log)
    add_branch_log = blocking(PartitionedRunLogStore.add_branch_log)
    get_run_config = blocking(PartitionedRunLogStore.get_run_config)
    set_run_config = blocking(PartitionedRunLogStore.set_run_config)
    get_job_log = blocking(PartitionedRunLogStore.get_job_log)
    add_job_log = blocking(PartitionedRunLogStore.add_job_log)
    reduce_parameters_to_parent = blocking(PartitionedRunLogStore.reduce_parameters_to_parent)
    compile_branch_results = blocking(PartitionedRunLogStore.compile_branch_results)
    finalize_run_log = blocking(PartitionedRunLogStore.finalize_run_log)
