"""House rules, checked by reading the source: import direction, banned calls, and the length of a file."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES_MAX = 380

SOURCES = sorted(path.relative_to(ROOT) for top in ("engine", "projections") for path in (ROOT / top).rglob("*.py"))

_CONTRACTS = {
    contract["name"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}

# Each module may import from earlier rows, never from later ones. Whether it may import from its own row is configured
# in pyproject.toml and checked by `lint-imports`.
LAYERS = tuple(re.split(r" [:|] ", row) for row in reversed(_CONTRACTS["The write side is layered"]["layers"]))
UP_THE_LAYERS = {tuple(each.split(" -> ")) for each in _CONTRACTS["The write side is layered"]["ignore_imports"]}

READ_SIDE_MAY_IMPORT = {
    allowed.removeprefix("projections.* -> ")
    for allowed in _CONTRACTS["The read side knows the events and the ports, not the write side"]["ignore_imports"]
}

BANNED_CALLS = {
    *("print", "eval", "exec", "compile", "breakpoint", "input", "time.sleep", "os._exit", "sys.exit"),
    *("__import__", "import_module", "importlib.import_module", "os.system"),
}
ALLOWED_CALLS = {
    "engine/cli/document.py": {"print"},  # it prints a command's answer
    "engine/cli/failures.py": {"print"},  # it prints a command's error
    "engine/logs/file_lock.py": {"time.sleep"},  # on the connection's own thread, while opening and closing
    "engine/logs/forking.py": {"time.sleep"},  # while another thread forks, or while a fork waits for SQLite
}
DEFINITIONS = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
BANNED_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "yaml", "subprocess"}


def module_of(path: Path) -> str:
    """The dotted name of a source file."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imports_of(path: Path) -> set[str]:
    """The modules that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def is_inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def layer_of(module: str) -> int | None:
    """Return a module's index in `LAYERS`; the package `engine` counts as the composition that it re-exports."""
    if module == "engine":
        return layer_of("engine.composition")
    return next((index for index, row in enumerate(LAYERS) if any(is_inside(module, each) for each in row)), None)


def calls_of(path: Path) -> Iterator[str]:
    """Yield the name or dotted name of everything that a file calls."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def in_engine() -> list[Path]:
    return [path for path in SOURCES if path.parts[0] == "engine"]


def in_projections() -> list[Path]:
    return [path for path in SOURCES if path.parts[0] == "projections"]


@pytest.mark.parametrize("path", in_engine(), ids=str)
def test_only_the_composition_knows_the_projections(path: Path) -> None:
    """Only `engine.composition` imports the projections; no other module of the write side does."""
    if module_of(path) != "engine.composition":
        assert {module for module in imports_of(path) if is_inside(module, "projections")} == set()


@pytest.mark.parametrize("path", in_projections(), ids=str)
def test_the_read_side_knows_events_and_ports_only(path: Path) -> None:
    """A projection imports from `engine` only the listed modules; an `__init__.py` may import `engine` itself."""
    face = {"engine"} if path.name == "__init__.py" else set()
    assert {module for module in imports_of(path) if is_inside(module, "engine")} <= READ_SIDE_MAY_IMPORT | face


_IMPORT_EACH_FIRST = """
import os, sys
import aiosqlite, anyio, msgspec, structlog  # which import neither side
for module in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        __import__(module)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{module} cannot be imported first")
"""


def test_either_side_may_be_imported_first() -> None:
    """Every module of the projections can be imported before the engine."""
    modules = [module_of(path) for path in in_projections()]
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_EACH_FIRST, *modules], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", in_engine(), ids=str)
def test_imports_point_down_the_layers(path: Path) -> None:
    """Every module of the engine that imports others has a layer, and imports nothing from a layer above its own."""
    own = layer_of(module_of(path))
    if not imports_of(path):  # the docstring of a package whose modules are in several layers
        return
    assert own is not None, f"{path} has no place in LAYERS"
    above = {module for module in imports_of(path) if is_inside(module, "engine") and (layer_of(module) or 0) > own}
    assert {(module_of(path), module) for module in above} <= UP_THE_LAYERS


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=str)
def test_packages_hold_re_exports_and_nothing_else(path: Path) -> None:
    """An `__init__.py` holds a docstring, imports and `__all__` only."""
    for node in tree_of(path).body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_all = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        assert is_docstring or is_all or isinstance(node, ast.Import | ast.ImportFrom), ast.unparse(node)


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_banned_calls_and_modules(path: Path) -> None:
    """No module calls a banned function or imports a banned module, except for the calls listed as allowed."""
    assert set(calls_of(path)) & BANNED_CALLS == ALLOWED_CALLS.get(str(path), set())
    assert {module.split(".")[0] for module in imports_of(path)} & BANNED_MODULES == set()


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_files_stay_short(path: Path) -> None:
    """No source file is longer than `LINES_MAX` lines."""
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= LINES_MAX


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_every_module_says_what_it_is(path: Path) -> None:
    """Every module that is not empty has a docstring."""
    tree = tree_of(path)
    assert not tree.body or ast.get_docstring(tree)


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_names_say_what_things_are(path: Path) -> None:
    """No module, class or function has a vague word such as "manager" or "helper" in its name."""
    defined = [node.name for node in ast.walk(tree_of(path)) if isinstance(node, DEFINITIONS)]
    for name in [path.stem, *defined]:
        words = name.lower()
        assert not any(word in words for word in ("manager", "helper", "utils", "misc", "common")), name


def test_the_layers_name_modules_that_exist() -> None:
    """Every module named in `LAYERS` exists."""
    existing = {module_of(path) for path in SOURCES}
    assert {each for row in LAYERS for each in row} <= existing
