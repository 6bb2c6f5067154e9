"""The dependencies of tasks, and the cycles among them. Pure; nothing recurses.

A dependency is looked up in the task's own branch first, then in the branches that it was forked from.
"""

from collections.abc import Iterator, Mapping, Sequence

from engine.reports.standing import Place, PlacedStep


def found_dependencies(
    task: PlacedStep, tasks: Mapping[Place, PlacedStep], parents: Mapping[str, str | None]
) -> dict[str, Place | None]:
    """Return the place of each dependency of a task by name, None if no task has that name.

    Args:
        parents: the branch that each branch was forked from.
    """
    spec = task.step.spec
    names = [] if spec is None else spec.dependencies
    return {name: _found(name, task.branch, tasks, parents) for name in names}


def _found(
    name: str, branch: str, tasks: Mapping[Place, PlacedStep], parents: Mapping[str, str | None]
) -> Place | None:
    within: str | None = branch
    while within is not None:
        place = Place(within, name)
        if place in tasks:
            return place
        within = parents.get(within)
    return None


def in_order(waits_for: Mapping[Place, Sequence[Place]]) -> Iterator[list[Place]]:
    """Yield the strongly connected components of a graph, each after all components that it waits for.

    Tarjan's algorithm with an explicit stack. Neighbours that are not keys are ignored.
    """
    order: dict[Place, int] = {}
    lowest: dict[Place, int] = {}
    open_keys: dict[Place, None] = {}  # Tarjan's stack, with fast membership tests
    for start in waits_for:
        if start in order:
            continue
        path = [(start, _enter(start, waits_for, order, lowest, open_keys))]
        while path:
            key, neighbours = path[-1]
            neighbour = next(neighbours, None)
            if neighbour is None:
                path.pop()
                if path:
                    above = path[-1][0]
                    lowest[above] = min(lowest[above], lowest[key])
                if lowest[key] == order[key]:
                    yield _popped(open_keys, key)
            elif neighbour not in order:
                path.append((neighbour, _enter(neighbour, waits_for, order, lowest, open_keys)))
            elif neighbour in open_keys:
                lowest[key] = min(lowest[key], order[neighbour])


def _enter(
    key: Place,
    waits_for: Mapping[Place, Sequence[Place]],
    order: dict[Place, int],
    lowest: dict[Place, int],
    open_keys: dict[Place, None],
) -> Iterator[Place]:
    order[key] = lowest[key] = len(order)
    open_keys[key] = None
    return (neighbour for neighbour in waits_for[key] if neighbour in waits_for)


def _popped(open_keys: dict[Place, None], key: Place) -> list[Place]:
    component = []
    while True:
        last, _ = open_keys.popitem()
        component.append(last)
        if last == key:
            return component[::-1]
