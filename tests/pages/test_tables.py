"""Tables come from the results, and the README's are up to date."""

import json
from pathlib import Path
from typing import Any

import pytest

from cxrsynth.errors import UsageError
from cxrsynth.pages.tables import render, table

ROOT = Path(__file__).parent.parent.parent


def one(arm: str, klass: str, value: float, lo: float | None = None, hi: float | None = None) -> dict[str, Any]:
    return {"arm": arm, "class": klass, "metric": "dice", "value": value, "lo": lo, "hi": hi, "n": 26}


RECORDS = [one("raw", "heart", 0.81234, 0.8, 0.83), one("raw", "left_lung", 0.9), one("crf", "heart", 0.85)]


def test_rows_and_columns_span_the_table() -> None:
    lines = table(RECORDS, rows="arm", columns="class").splitlines()
    assert lines[0] == "| arm | heart | left lung | n |"
    assert lines[2] == "| raw | 0.812 (0.8-0.83) | 0.9 | 26 |"
    assert lines[3] == "| crf | 0.85 |  | 26 |"


def test_an_interval_with_a_minus_is_written_with_to() -> None:
    assert "| 0.01 (-0.02 to 0.04) |" in table([one("gain", "heart", 0.01, -0.02, 0.04)], columns="class")


def test_a_bound_is_written_with_its_sign() -> None:
    bound = {**one("generated", "mean", 8, 8, 11), "sign": "<"}
    assert "| < 8 (8-11) |" in table([bound], columns="class")


def test_only_the_block_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "masks.json").write_text(json.dumps(RECORDS))
    text = "before\n<!-- table: masks columns=class arm=crf -->\nold\n<!-- /table -->\nafter\n"
    made = render(text, tmp_path)
    assert made.startswith("before\n<!-- table: masks")
    assert made.endswith("<!-- /table -->\nafter\n")
    assert "old" not in made
    assert "raw" not in made
    assert render(made, tmp_path) == made


def test_a_benchmark_that_was_never_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"masks\.json"):
        render("<!-- table: masks -->\n<!-- /table -->", tmp_path)


PAGES = [ROOT / "README.md", ROOT / "cxrsynth/models/mini/README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("name", [str(path.relative_to(ROOT)) for path in PAGES])
def test_the_tables_of_the_project_are_what_the_results_say(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert render(text, ROOT / "results") == text
