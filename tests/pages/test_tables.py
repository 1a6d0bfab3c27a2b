"""Tables come from the results, and the README's are up to date."""

import json
from pathlib import Path
from typing import Any

import pytest

from cxrsynth.errors import UsageError
from cxrsynth.pages.tables import NOT_YET, render, table

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


@pytest.mark.parametrize("marker", ["never_run", "masks metric=iou"])
def test_what_was_not_measured_yet_says_so(marker: str, tmp_path: Path) -> None:
    (tmp_path / "masks.json").write_text(json.dumps(RECORDS))
    made = render(f"<!-- table: {marker} -->\nold\n<!-- /table -->", tmp_path)
    assert made == f"<!-- table: {marker} -->\n{NOT_YET}<!-- /table -->"


def test_a_field_that_no_record_has_is_named(tmp_path: Path) -> None:
    (tmp_path / "masks.json").write_text(json.dumps(RECORDS))
    with pytest.raises(UsageError, match="'metrics'"):
        render("<!-- table: masks columns=metrics -->\n<!-- /table -->", tmp_path)


def test_an_underscore_picks_a_value_with_a_space() -> None:
    assert "0.5" in table([one("mixed arm", "heart", 0.5)], columns="class", arm="mixed_arm")


PAGES = [ROOT / "README.md", ROOT / "cxrsynth/models/mini/README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("name", [str(path.relative_to(ROOT)) for path in PAGES])
def test_the_tables_of_the_project_are_what_the_results_say(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert render(text, ROOT / "results") == text
