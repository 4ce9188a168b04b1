"""The rooms of clipkit: imports go down the list of floors, and never in a circle."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "clipkit"

FLOORS = (
    "cli",
    "server",
    "client library",
    "training",
    "indexing",
    "generation",
    "searching",
    "organising",
    "matching",
    "models",
    "marks",
    "vectors",
    "catalog",
    "images",
    "samples",
    "atomic cores progress errors telemetry version",
)
"""Top to bottom, as docs/architecture.md draws them; rooms on one floor do not import each other."""

LEVEL = {room: level for level, floor in enumerate(FLOORS) for room in floor.split()}


def modules() -> dict[str, Path]:
    """Dotted names below `clipkit` and their files; the package itself is "__init__"."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


MODULES = modules()


def imported(path: Path) -> set[str]:
    """The modules of clipkit that a file imports anywhere: at the top, in functions, under TYPE_CHECKING."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                names.add(whole if whole.removeprefix("clipkit.") in MODULES else node.module or "")
    inside = {name.removeprefix("clipkit.") for name in names if name.startswith("clipkit.")}
    return inside & MODULES.keys() | ({"__init__"} if "clipkit" in names else set())


IMPORTS = {name: imported(path) - {name} for name, path in MODULES.items()}


def room(module: str) -> str:
    return module.partition(".")[0]


def test_every_room_has_a_floor():
    assert {room(module) for module in MODULES} - {"__init__", "__main__"} <= LEVEL.keys()


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"__init__", "__main__"}))
def test_imports_go_down(module: str):
    own = LEVEL[room(module)]
    upward = {
        other
        for other in IMPORTS[module]
        if room(other) != room(module) and (other == "__init__" or LEVEL[room(other)] <= own)
    }
    assert not upward, f"{module} imports {sorted(upward)} from its own floor or above"


def test_no_import_is_part_of_a_circle():
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for other in sorted(IMPORTS[module]):
                visit(other, (*trail, module))
            done.add(module)

    for module in sorted(MODULES):
        visit(module, ())
