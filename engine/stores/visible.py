"""The parameters that a branch sees, when it sees more than its own."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

from typing_extensions import override

from engine.codec import same
from engine.model import Parameter
from engine.stores.documents import as_parameter


class VisibleParameters(dict[str, Any]):
    """What a branch sees by name, as the host's own objects: a dict that knows which of them are only inherited.

    Hosts merge a branch into its parent by `parent.update(branch)`, and write a whole dict back. Done with plain dicts,
    that would overwrite the parent's fresh values with copies that were inherited long ago. Here, `update` and `|=`
    with another one of these take only what its branch set itself or what was changed in it since; everything else is
    as in any dict. Copies, shallow and deep, and pickles keep the knowledge.

    Args:
        values: everything that the branch sees.
        inherited: those of it that come through the fork, as recorded.
    """

    def __init__(
        self, values: Mapping[str, Any] | None = None, inherited: Mapping[str, Parameter] | None = None
    ) -> None:
        super().__init__(values or {})
        self.inherited = dict(inherited or {})

    def own(self) -> dict[str, Any]:
        """Return what is not just inherited: it was set in the branch, or changed or added in this dict."""
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
