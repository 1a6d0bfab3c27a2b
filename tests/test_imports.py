"""Data goes one way: a room imports only rooms above it, a file only files of its own room or of those."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "cxrsynth"

# Top to bottom; a room may import from lines above its own, never from its own line. A room inside a room is named by
# its path; what is not named belongs to the room around it.
ORDER = [
    {"errors"},
    {"records"},
    {"data.paths"},
    {"data.documents"},
    {"data.keys", "data.tables", "data.masks", "data.classes", "data.matching", "data.shapes"},
    {"encoding", "files"},
    {"registry", "console", "pool", "lock", "device", "statistics", "clock"},
    {"store", "alone"},
    {"weights"},
    {"auxiliary_files"},
    {"domain"},
    {"recipe"},
    {"pages.sheet"},
    {"pages.worst", "pages.reconstruction", "pages.curves"},
    {"nets"},
    {"data"},
    {"ingest", "masks", "curate"},
    {"generate"},
    {"factory.prompts", "factory.computed", "factory.batches"},
    {"factory.shard"},
    {"factory.engines", "factory.plan"},
    {"factory.run"},
    {"factory"},
    {"factory.apply"},
    {"evaluate.results"},
    {"pages.tables"},
    {"evaluate"},
    {"train"},
    {"train.tasks"},
    {"train.recipe"},
    {"crossfit"},
    {"compare"},
    {"pages"},
    {"export"},
    {"api"},
    {"cli"},
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
# Rooms that a room must not know although they lie above it.
STRANGERS = {"evaluate": {"generate"}}
# Tasks of training do not know each other: what two of them need belongs beside the loop.
TASKS = "train.tasks"


def module(path: Path) -> str:
    """``train.tasks.segment.config`` for a file of the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def room(name: str) -> str:
    """The innermost room of ORDER around a module."""
    parts = name.split(".")
    return next((".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in RANK), "")


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "cxrsynth":
            base = node.module.removeprefix("cxrsynth").removeprefix(".")
            found |= {f"{base}.{alias.name}".removeprefix(".") for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("cxrsynth.") for alias in node.names if alias.name.startswith("cxrsynth.")
            }
    return found - {"__version__"}


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
by_file = pytest.mark.parametrize("path", FILES, ids=[module(path) for path in FILES])


@by_file
def test_imports_point_up_only(path: Path) -> None:
    mine = room(module(path))
    assert mine, f"give the room of {module(path)} its place in ORDER"
    others = {name: room(name) for name in imports(path)}
    assert "" not in others.values(), others
    wrong = {name for name, other in others.items() if other != mine and RANK[other] >= RANK[mine]}
    assert not wrong


@by_file
def test_rooms_that_must_not_know_each_other_do_not(path: Path) -> None:
    mine = module(path).split(".")[0]
    assert not {name for name in imports(path) if name.split(".")[0] in STRANGERS.get(mine, set())}


@pytest.mark.parametrize("path", [path for path in FILES if module(path).startswith(f"{TASKS}.")], ids=module)
def test_tasks_never_import_each_other(path: Path) -> None:
    def task(name: str) -> str:
        return name.removeprefix(f"{TASKS}.").split(".")[0] if name.startswith(f"{TASKS}.") else ""

    assert {task(name) for name in imports(path)} <= {"", task(module(path))}


@by_file
def test_rooms_that_share_a_name_with_the_interface_are_imported_from_within(path: Path) -> None:
    # ``from cxrsynth import generate`` gives the function, not the room.
    assert not imports(path) & {"generate", "export"}


def test_albumentations_is_imported_in_one_place() -> None:
    assert [module(path) for path in FILES if "albumentations" in _libraries(path)] == ["data.augment"]


def _libraries(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in names}


def imports_torch(code: str) -> bool:
    return subprocess.run([sys.executable, "-c", f"{code}\nsys.exit('torch' in sys.modules)"]).returncode != 0


COMMAND = """
import sys
sys.argv = ["cxrsynth", *{arguments!r}]
from cxrsynth.cli import main
try:
    main()
except SystemExit:
    pass
"""


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["recipes"], ["check", "phantom"]])
def test_a_command_that_needs_no_torch_imports_none(arguments: list[str]) -> None:
    assert not imports_torch(COMMAND.format(arguments=arguments))


def test_status_imports_no_torch(phantom_dataset: Path) -> None:
    assert not imports_torch(COMMAND.format(arguments=["status", str(phantom_dataset)]))


def test_the_interface_imports_no_torch() -> None:
    assert not imports_torch("import sys, cxrsynth; dir(cxrsynth), cxrsynth.generate, cxrsynth.Dataset")


def test_labelling_in_the_pool_imports_no_torch() -> None:
    assert not imports_torch("import sys, cxrsynth.masks.labels, cxrsynth.curate, cxrsynth.generate.phantom")
