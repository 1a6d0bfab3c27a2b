"""Data goes one way: a room imports only rooms above it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "cxrsynth"

# Top to bottom; a room may import from lines above its own, never from its own line.
ORDER = [
    {"errors"},
    {"registry", "console", "pool", "lock", "device", "interval"},
    {"records"},
    {"store"},
    {"weights"},
    {"networks"},
    {"atlas"},
    {"regions"},
    {"data"},
    {"recipe"},
    {"prompts"},
    {"generate", "masks", "curate"},
    {"shard"},
    {"engines", "plan"},
    {"run"},
    {"sheet"},
    {"ingest", "dataset", "relabel"},
    {"train", "annotate", "edit"},
    {"segment"},
    {"classify"},
    {"evaluate"},
    {"compare"},
    {"summary", "preview", "grid"},
    {"card", "report"},
    {"export"},
    {"cli"},
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cxrsynth"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("cxrsynth.")}
    return found - {"__version__"}


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_imports_point_up_only(path: Path) -> None:
    mine = room(path)
    if mine == "__init__":
        return
    assert mine in RANK, f"give the room '{mine}' its place in ORDER"
    wrong = {other for other in imports(path) - {mine} if RANK[other] >= RANK[mine]}
    assert not wrong


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


def test_labelling_in_the_pool_imports_no_torch() -> None:
    assert not imports_torch("import sys, cxrsynth.masks.labels, cxrsynth.curate, cxrsynth.generate.phantom")
