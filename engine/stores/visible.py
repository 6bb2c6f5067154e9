"""A dict of the parameters that a branch sees, which knows the inherited ones."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

from typing_extensions import override

from engine.codec import same
from engine.model import Parameter
from engine.stores.documents import as_parameter


class VisibleParameters(dict[str, Any]):
    """The parameters that a branch sees by name, as the host's own objects; it knows which are only inherited.

    Hosts merge a branch into its parent with `parent.update(branch)`, and write the whole dict back. With plain dicts,
    that would overwrite the parent's fresh values with stale inherited copies. Here, `update` and `|=` with another
    `VisibleParameters` take only the values that its branch set itself or that were changed in the dict since;
    everything else works as in any dict. Shallow and deep copies and pickles keep track of inherited values.

    Args:
        values: all parameters that the branch sees.
        inherited: those among them that come through the fork.
    """

    def __init__(
        self, values: Mapping[str, Any] | None = None, inherited: Mapping[str, Parameter] | None = None
    ) -> None:
        super().__init__(values or {})
        self.inherited = dict(inherited or {})

    def own(self) -> dict[str, Any]:
        """Return the values that are not just inherited: set in the branch, or changed or added in this dict."""
        return {name: value for name, value in self.items() if not self._is_inherited(name, value)}

    @override
    def update(self, other: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **values: Any) -> None:  # type: ignore[override] # one signature for dict's many
        super().update(other.own() if isinstance(other, VisibleParameters) else other, **values)

    @override
    def __ior__(self, other: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Self:  # type: ignore[override] # as above
        self.update(other)
        return self

    @override
    def copy(self) -> "VisibleParameters":
        return VisibleParameters(self, self.inherited)

    __copy__ = copy

    def _is_inherited(self, name: str, value: Any) -> bool:
        return name in self.inherited and same(self.inherited[name], as_parameter(value))
