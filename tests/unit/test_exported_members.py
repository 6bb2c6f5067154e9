"""The public interface: `__all__` matches what exists, and all of it is documented."""

import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import engine
import projections

ROOT = Path(engine.__file__).parents[1]
HANDLES = [engine.Engine, engine.Run, engine.Branch, engine.Attempt]


def packages() -> list[str]:
    """Return both packages and every package inside them."""
    return [
        ".".join(found.parent.relative_to(ROOT).parts)
        for top in ("engine", "projections")
        for found in sorted((ROOT / top).rglob("__init__.py"))
    ]


@pytest.mark.parametrize("name", packages())
def test_what_all_says_is_what_exists(name: str) -> None:
    """Every name in a package's `__all__` exists and occurs once."""
    package = importlib.import_module(name)
    exported = getattr(package, "__all__", [])
    assert len(exported) == len(set(exported))
    assert [each for each in exported if not hasattr(package, each)] == []


@pytest.mark.parametrize("name", packages())
def test_nothing_public_is_left_out_of_all(name: str) -> None:
    """Every public name of a package is in its `__all__`."""
    package = importlib.import_module(name)
    public = {
        each for each, member in vars(package).items() if not each.startswith("_") and not inspect.ismodule(member)
    }
    assert public == set(getattr(package, "__all__", []))


@pytest.mark.parametrize("name", engine.__all__)
def test_every_exported_class_and_function_has_a_docstring(name: str) -> None:
    """Every exported class and function has a docstring."""
    member = getattr(engine, name)
    if inspect.isclass(member) or inspect.isfunction(member):
        assert inspect.getdoc(member)


def public_methods(handle: type) -> list[str]:
    """Return the names of a handle's public methods and properties."""
    return [
        name
        for name, member in inspect.getmembers(handle)
        if not name.startswith("_") and (callable(member) or isinstance(member, property))
    ]


@pytest.mark.parametrize(
    ("handle", "method"),
    [(handle, method) for handle in HANDLES for method in public_methods(handle)],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_every_method_of_a_handle_has_a_docstring(handle: type, method: str) -> None:
    """Every public method and property of a handle but `run_id` has a docstring."""
    if method != "run_id":
        assert inspect.getdoc(getattr(handle, method))


@pytest.mark.parametrize("handle", HANDLES, ids=lambda handle: handle.__name__)
def test_no_method_takes_a_boolean_by_position(handle: type) -> None:
    """No public method of a handle takes a boolean as a positional argument."""
    for method in public_methods(handle):
        member = getattr(handle, method)
        if not callable(member):
            continue
        positional = [
            parameter
            for parameter in inspect.signature(member).parameters.values()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        assert [each.name for each in positional if isinstance(each.default, bool)] == []


@pytest.mark.parametrize("top", [engine, projections], ids=lambda package: package.__name__)
def test_both_packages_ship_their_types(top: ModuleType) -> None:
    """Both packages contain `py.typed`."""
    assert (importlib.resources.files(top) / "py.typed").is_file()
