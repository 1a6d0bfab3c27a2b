"""There is one reader of every kind of file that a user writes."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "cxrsynth"
CALLS = {
    "csv.reader": {"data/tables.py"},
    "csv.DictReader": set(),
    "yaml.safe_load": {"data/documents.py"},
    "yaml.load": set(),
    "pickle.load": set(),
    "torch.load": None,
}
# Files that open pictures: the reader of masks, that of images, and those that read what this package wrote itself.
PICTURES = {"data/masks.py", "ingest/image.py"}


def calls(path: Path) -> set[str]:
    """``module.function`` of every call of a function of a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
        ):
            found.add(f"{node.func.value.id}.{node.func.attr}")
    return found


FILES = {path.relative_to(PACKAGE).as_posix(): calls(path) for path in PACKAGE.rglob("*.py")}


@pytest.mark.parametrize("call", [name for name, places in CALLS.items() if places is not None])
def test_a_kind_of_file_is_read_in_one_place(call: str) -> None:
    assert {name for name, found in FILES.items() if call in found} <= (CALLS[call] or set())


def test_classes_are_read_in_one_place() -> None:
    """Whoever takes ``classes.json`` apart by hand reads fewer shapes of it than `read_classes` does."""
    by_hand = [path for path in PACKAGE.rglob("*.py") if 'json.loads((store.root / "classes.json")' in path.read_text()]
    assert not by_hand


def test_weights_are_never_unpickled() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert given.get("weights_only") == "True", path


def test_no_code_is_ever_taken_from_a_model() -> None:
    """The classes of transformers that look for code in a folder are told not to run it."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("transformers.Auto"):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert given.get("trust_remote_code") == "False", f"{path}: {ast.unparse(node.func)}"


def test_a_path_of_a_row_is_never_followed_as_it_is() -> None:
    """What a row names is opened through `inside`, which keeps it in its dataset."""
    raw = re.compile(r"root\)? / (self\.)?(row|one|item)\b|root / str\((self\.)?row\b")
    found = {path.name: raw.findall(path.read_text()) for path in PACKAGE.rglob("*.py")}
    assert not {name: hits for name, hits in found.items() if hits}
