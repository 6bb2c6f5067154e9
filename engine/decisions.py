"""Decisions: pure functions from the current state and a command to events, or an error.

A decision reads `State` and returns events; it never writes. Document-shaped commands become fine-grained events for
what changed, so writing the same document twice records nothing.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct, structs

from engine.codec import differing, in_parts, same
from engine.commands import (
    SOURCE_HEAD,
    Command,
    Configure,
    CopyParameters,
    DescribeBranch,
    DescribeRun,
    Finalize,
    Fork,
    MergeParameters,
    OpenRun,
    Pin,
    Record,
    Reduce,
    SetStatus,
    Unless,
)
from engine.errors import (
    BranchExists,
    BranchNotFound,
    HeadsMoved,
    InvalidValue,
    PointNotFound,
    ReductionConflict,
    RunExists,
    RunNotFound,
    SourceReplaced,
)
from engine.events import (
    BranchForked,
    BranchLogged,
    BranchStatusChanged,
    Event,
    JobLogged,
    ParametersReduced,
    ParametersSet,
    RunConfigured,
    RunFinalized,
    RunForked,
    RunPinned,
    RunStatusChanged,
    RunUnpinned,
)
from engine.model import ERASED, Head, Parameter, Source
from engine.names import ROOT, dotted_prefixes
from engine.ports import OwnParameter, State, Stream
from engine.reduction import Child, contested, fold, written_itself
from engine.step_decisions import STEP_HANDLERS, Handler, check_attempts
from engine.task_decisions import TASK_HANDLERS

# Well below the default event size limit, so any number of branches can be finalised.
_FINALIZED_BYTES_MAX = 256 * 1024


class Opening(Struct, frozen=True, gc=False):
    """A stream that a decision's first event opens, and its parent stream, if any."""

    branch: str
    parent: Stream | None


class Decision(Struct, frozen=True, gc=False):
    """Events for one stream: an existing one, or one that the first event `opens`."""

    events: Sequence[Event]
    stream: Stream | None = None
    opens: Opening | None = None


def decide(run_id: str, command: Command, state: State) -> Decision:
    """Return the events of a command, given the run's current state.

    Raises:
        NotFound, AlreadyExists, Conflict, InvalidInput: the command cannot be carried out; see `engine.errors`.
    """
    if isinstance(command, OpenRun):
        return _open_run(run_id, command, state)
    if isinstance(command, Fork):
        return _fork(run_id, command, state)
    stream = _open_stream(run_id, command.branch, state)
    return Decision(_HANDLERS[type(command)](command, stream, state), stream)


def _open_stream(run_id: str, branch: str, state: State) -> Stream:
    stream = state.stream(run_id, branch)
    if stream is None:
        if branch == ROOT or state.stream(run_id, ROOT) is None:
            raise RunNotFound(run_id)
        raise BranchNotFound(run_id, branch)
    return stream


def _open_run(run_id: str, command: OpenRun, state: State) -> Decision:
    if state.stream(run_id, ROOT) is not None:
        if command.exist_ok:
            return Decision(())
        raise RunExists(run_id)
    event, source = command.event, None
    if isinstance(event, RunForked):
        source = _source(event, state)
        event = structs.replace(event, source_version=source.version, source_hash=source.hash)
    events: list[Event] = [event]
    if command.parameters:
        events.append(ParametersSet(branch=ROOT, values=command.parameters))
    if command.details:
        events.append(BranchLogged(branch=ROOT, details=command.details))
    return Decision(events, opens=Opening(ROOT, source))


def _source(event: RunForked, state: State) -> Stream:
    """Return the stream that a forked run continues, with its version and hash at the fork."""
    source = _open_stream(event.source_run_id, event.source_branch, state)
    if event.source_version == SOURCE_HEAD:
        return source
    if not 1 <= event.source_version <= source.version:
        raise PointNotFound(source.run_id, source.branch, event.source_version, source.version)
    hash_ = state.hash_at(source, event.source_version)
    if event.source_hash not in (b"", hash_):
        raise SourceReplaced(source.run_id)
    return structs.replace(source, version=event.source_version, hash=hash_)


def _fork(run_id: str, command: Fork, state: State) -> Decision:
    parent = _parent(run_id, command, state)
    known = state.stream(run_id, command.branch)
    if known is not None:
        if command.exist_ok and (command.parent is None or known.parent_id == parent.stream_id):
            return Decision(())
        raise BranchExists(run_id, command.branch)
    event = BranchForked(
        branch=command.branch,
        parent=parent.branch,
        parent_version=parent.version,
        parent_hash=parent.hash,
        status=command.status,
    )
    return Decision((event,), opens=Opening(command.branch, parent))


def _parent(run_id: str, command: Fork, state: State) -> Stream:
    if command.parent is not None:
        return _open_stream(run_id, command.parent, state)
    open_streams = (state.stream(run_id, prefix) for prefix in dotted_prefixes(command.branch))
    return next((stream for stream in open_streams if stream is not None), None) or _open_stream(run_id, ROOT, state)


def _record(command: Record, stream: Stream, state: State) -> Sequence[Event]:
    check_attempts(command.events, stream, state)
    return command.events


def _merge_parameters(command: MergeParameters, stream: Stream, state: State) -> Sequence[Event]:
    values = _new_values(command.values, command.unless, stream, state)
    return (ParametersSet(branch=stream.branch, values=values),) if values else ()


def _copy_parameters(command: CopyParameters, stream: Stream, state: State) -> Sequence[Event]:
    source = _open_stream(stream.run_id, command.source, state)
    if command.unless == "own" and source.branch != ROOT:  # by this rule, only a branch's own values are visible
        visible = {name: own.parameter for name, own in state.own_parameters([source])[0].items()}
    else:
        visible = state.parameters(source)
    present = {name: value for name, value in visible.items() if value != ERASED}
    values = _new_values(present, command.unless, stream, state, copies=True)
    copied_from = Source(source.branch, source.version)
    return (ParametersSet(branch=stream.branch, values=values, copied_from=copied_from),) if values else ()


def _new_values(
    values: Mapping[str, Parameter], unless: Unless, stream: Stream, state: State, *, copies: bool = False
) -> dict[str, Parameter]:
    """Return the values that a branch does not see yet; with `"own"`, those that it has not set itself.

    Values that were copied to the branch count as its own only if `values` are `copies` too.
    """
    if unless == "own":
        own = state.own_of(stream, values.keys())
        seen = {name: each.parameter for name, each in own.items() if copies or not each.copied}
    else:
        seen = state.parameters(stream, names=values.keys())
    return differing(values, seen)


def _configure(command: Configure, stream: Stream, state: State) -> Sequence[Event]:
    events: list[Event] = []
    if command.config is not None:
        config = differing(command.config, state.config(stream))
        if config:
            events.append(RunConfigured(branch=ROOT, config=config))
    if command.job is not None and not same(state.job(stream.run_id), command.job):
        events.append(JobLogged(branch=ROOT, job=command.job))
    return events


def _set_status(command: SetStatus, stream: Stream, state: State) -> Sequence[Event]:
    known_reason = state.status_reason(stream)
    if state.status(stream) == command.status and command.reason in (None, known_reason):
        return ()
    reason = known_reason if command.keep_reason and command.reason is None else command.reason
    return (_status_event(stream, command.status, reason),)


def _pin(command: Pin, stream: Stream, state: State) -> Sequence[Event]:
    if state.pinned(stream.run_id) == command.pinned:
        return ()
    return ((RunPinned if command.pinned else RunUnpinned)(branch=ROOT, reason=command.reason),)


def _status_event(stream: Stream, status: str, reason: str | None) -> Event:
    if stream.branch == ROOT:
        return RunStatusChanged(branch=ROOT, status=status, reason=reason)
    return BranchStatusChanged(branch=stream.branch, status=status, reason=reason)


def _describe_branch(command: DescribeBranch, stream: Stream, state: State) -> Sequence[Event]:
    known = state.branch_details(stream)
    details = {**known, **command.details} if command.merge else command.details
    return () if same(known, details) else (BranchLogged(branch=stream.branch, details=details),)


def _describe_run(command: DescribeRun, stream: Stream, state: State) -> Sequence[Event]:
    details = state.branch_details(stream)
    new = differing(command.details, {**state.opened_with(stream.run_id), **details})
    return (BranchLogged(branch=stream.branch, details={**details, **new}),) if new else ()


def _reduce(command: Reduce, stream: Stream, state: State) -> Sequence[Event]:
    children = _children(command, stream, state)
    heads = [Head(child.branch, child.version, child.hash) for child in children]
    if command.relies_on is not None and tuple(heads) != command.relies_on:
        raise HeadsMoved(stream.run_id, stream.branch)
    inputs, parent_own = _fold_inputs(children, heads, stream, state)
    outcome = fold(
        inputs,
        parent_own,
        rules=command.rules,
        default_rule=command.default_rule,
        keep_parent=command.on_conflict == "parent",
        computed=command.computed,
    )
    if command.on_conflict == "error" and outcome.conflicts:
        raise ReductionConflict(stream.run_id, stream.branch, outcome.conflicts)
    event = ParametersReduced(
        branch=stream.branch,
        children=heads,
        rules=outcome.rules,
        values=outcome.values,
        sources=outcome.sources,
        on_conflict="parent" if command.on_conflict == "parent" else "child",
        conflicts=outcome.conflicts,
    )
    return (event,)


def _children(command: Reduce, stream: Stream, state: State) -> list[Stream]:
    if command.children is None:
        return state.children(stream)
    if len(set(command.children)) != len(command.children):
        raise InvalidValue("children", list(command.children), "names a branch more than once")
    children = [_open_stream(stream.run_id, name, state) for name in command.children]
    for child in children:
        if child.parent_id != stream.stream_id:
            raise InvalidValue("children", child.branch, f"is not forked from branch {stream.branch!r}")
    return children


def _fold_inputs(
    streams: Sequence[Stream], heads: Sequence[Head], parent: Stream, state: State
) -> tuple[list[Child], dict[str, OwnParameter]]:
    """Return the children, and those of the parent's own parameters whose names the children have set."""
    owns = [written_itself(own) for own in state.own_parameters(streams)]
    parent_own = state.own_of(parent, {name for own in owns for name in own})
    # Children forked from the same version of the parent share a base, which is looked up once.
    names: dict[int, set[str]] = {}
    for stream, own in zip(streams, owns, strict=True):
        names.setdefault(stream.parent_version, set()).update(contested(own, stream.parent_version, parent_own))
    bases = {
        version: state.parameters(parent, version=version, names=wanted) if wanted else {}
        for version, wanted in names.items()
    }
    children = [
        Child(head, own, stream.parent_version, bases[stream.parent_version])
        for stream, head, own in zip(streams, heads, owns, strict=True)
    ]
    return children, parent_own


def _finalize(_command: Finalize, stream: Stream, state: State) -> Sequence[Event]:
    heads = [Head(each.branch, each.version, each.hash) for each in state.streams(stream.run_id)]
    parts = list(in_parts(heads, _FINALIZED_BYTES_MAX))
    return [
        RunFinalized(branch=ROOT, heads=part, part=index, parts=len(parts)) for index, part in enumerate(parts, start=1)
    ]


_HANDLERS: dict[type, Handler] = {
    **STEP_HANDLERS,
    **TASK_HANDLERS,
    Record: _record,
    MergeParameters: _merge_parameters,
    CopyParameters: _copy_parameters,
    Configure: _configure,
    SetStatus: _set_status,
    Pin: _pin,
    DescribeBranch: _describe_branch,
    DescribeRun: _describe_run,
    Reduce: _reduce,
    Finalize: _finalize,
}
