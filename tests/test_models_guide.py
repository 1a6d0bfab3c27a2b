"""The guide to models names the families that are supported, each is built by the tests, and nobody else names one."""

import re
from pathlib import Path

import pytest

from cxrsynth.nets.families import FAMILIES

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs/guide/models.md").read_text(encoding="utf-8")
BUILT = (ROOT / "tests/nets/tiny.py").read_text(encoding="utf-8")
NAMES = re.compile(r"stable.?diffusion|\bsd3|\bsdxl|\bflux\b|pixart|\bsana\b|roentgen", re.IGNORECASE)
# Rooms that work with any family.
BLIND = [path for room in ("generate", "factory") for path in sorted((ROOT / "cxrsynth" / room).rglob("*.py"))]


def test_the_table_names_the_pipelines_that_are_supported() -> None:
    rows = [line for line in GUIDE.splitlines() if line.startswith("|")]
    named = {word for line in rows for word in re.findall(r"`(\w+Pipeline)`", line)}
    assert named == {kind for family in FAMILIES for kind in family.pipelines}


@pytest.mark.parametrize("kind", [kind for family in FAMILIES for kind in family.pipelines])
def test_every_pipeline_of_the_table_is_built_and_run(kind: str) -> None:
    assert kind in BUILT


@pytest.mark.parametrize("path", BLIND, ids=lambda path: str(path.relative_to(ROOT / "cxrsynth")))
def test_nothing_that_generates_names_a_family(path: Path) -> None:
    assert NAMES.findall(path.read_text(encoding="utf-8")) == []
