"""Requesting a reduction: built-in rules are applied under the write lock, the caller's functions before it.

A function's result is computed from the children as they were read, and the request names the heads that it relies on;
if a child has written in between, the result is computed again, up to ten times in all.
"""

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, cast

from msgspec import structs

from engine.commands import Reduce, Request
from engine.encoding.values import check_parameter
from engine.errors import HeadsMoved, InvalidValue, ReductionImpossible, shown
from engine.events import ParametersReduced
from engine.model import Parameter, Reduction
from engine.names import check_name
from engine.reduction import FUNCTION_RULE, check_rule
from engine.views import Views
from engine.writer import Writer

TRIES_MAX: Final = 10

Function: TypeAlias = Callable[[list[Any]], Any]
Rule: TypeAlias = str | Function
"""The name of a built-in rule, or a function from the children's values, in the children's order, to the result."""


async def reduce(writer: Writer, views: Views, request: Request, rules: Mapping[str, Rule]) -> Reduction:
    """Record a reduction; see `Branch.reduce`.

    Args:
        request: of one `Reduce`, which has no rules by name yet.
        rules: the rules by name. No function is called if the request's idempotency key is recorded already.

    Raises:
        HeadsMoved: children wrote during every one of the tries.
    """
    command = cast("Reduce", request.commands[0])
    rules = _checked(rules)
    functions = {name: rule for name, rule in rules.items() if not isinstance(rule, str)}
    command = structs.replace(
        command,
        rules=_built_in(rules, command) | dict.fromkeys(functions, FUNCTION_RULE),
        default_rule=str.__str__(command.default_rule),
        on_conflict=str.__str__(command.on_conflict),
    )
    if not functions or await writer.has_recorded(request.run_id, request.idempotency_key):
        return await _recorded(writer, request, command)
    for _ in range(TRIES_MAX - 1):
        with contextlib.suppress(HeadsMoved):
            return await _recorded(writer, request, await _computed(request.run_id, views, command, functions))
    return await _recorded(writer, request, await _computed(request.run_id, views, command, functions))


def _checked(rules: object) -> dict[str, Rule]:
    if not isinstance(rules, Mapping):
        raise InvalidValue("rules", rules, "is not a mapping of parameter names to rules")
    checked: dict[str, Rule] = {}
    for name, rule in rules.items():
        if not isinstance(rule, str) and not callable(rule):
            raise InvalidValue(f"rule of {shown(name)}", rule, "is neither the name of a rule nor a function")
        if inspect.iscoroutinefunction(rule):
            raise InvalidValue(f"rule of {shown(name)}", rule, "is an async function; it must be a plain function")
        checked[check_name(name, "parameter name")] = str.__str__(rule) if isinstance(rule, str) else rule
    return checked


def _built_in(rules: Mapping[str, Rule], command: Reduce) -> dict[str, str]:
    if command.on_conflict not in ("child", "parent", "error"):
        raise InvalidValue("on_conflict", command.on_conflict, "is not one of child, parent, error")
    if callable(command.default_rule):
        raise InvalidValue("default", command.default_rule, "is a function; functions must be given by name in rules")
    check_rule("default", command.default_rule)
    built_in = {name: rule for name, rule in rules.items() if isinstance(rule, str)}
    for name, rule in built_in.items():
        check_rule(name, rule)
    return built_in


async def _computed(run_id: str, views: Views, command: Reduce, functions: Mapping[str, Function]) -> Reduce:
    read = await views.own_values(run_id, command.branch, command.children)
    computed = {}
    for name, function in functions.items():
        if name in read.values:
            if any(parameter.kind == "erased" for parameter in read.values[name]):
                raise ReductionImpossible(name, FUNCTION_RULE, "one of the values was erased")
            value = function([parameter.value for parameter in read.values[name]])
            computed[name] = check_parameter(value if isinstance(value, Parameter) else Parameter(value), name)
    return structs.replace(command, computed=computed, relies_on=read.heads)


async def _recorded(writer: Writer, request: Request, command: Reduce) -> Reduction:
    recorded = await writer.submit(structs.replace(request, commands=(command,)))
    envelope = recorded.events[-1]
    event = cast("ParametersReduced", envelope.event)
    return Reduction(
        run_id=envelope.run_id,
        branch=envelope.branch,
        stream_version=envelope.stream_version,
        children=event.children,
        rules=event.rules,
        values=event.values,
        sources=event.sources,
        conflicts=event.conflicts,
        duplicate=recorded.duplicate,
    )
