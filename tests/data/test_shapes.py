"""Rows and recipes of a dataset that somebody changed are refused where they are read, whatever reads them."""

from pathlib import Path
from typing import Any

import pytest

from cxrsynth.data.shapes import check_recipe, check_row
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.store import Store
from tests.small_dataset import make, recipe, row


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", None), ("image", 7), ("mask", ["a"]), ("prompt", {"a": 1}), ("split", []), ("scores", [1]),
        ("scores", {"a": "b"}), ("fields", "x"), ("present", {"heart": "yes"}), ("mask_classes", "heart"),
        ("mask_classes", [3]), ("seed", "7"), ("notes", {}),
    ],
)  # fmt: skip
def test_a_field_of_another_kind_is_refused(name: str, value: Any) -> None:
    good = {**row(0), "image": "images/00000/a.png", "shard": 0}
    check_row(good, "here")
    with pytest.raises(UsageError, match=name):
        check_row({**good, name: value}, "here")


def test_what_nobody_here_reads_may_be_anything() -> None:
    check_row({**row(0), "image": "a.png", "of_another_tool": {"a": [1, {"b": None}]}}, "here")


@pytest.mark.parametrize(
    "body", [[], "x", {1: 2}, {"count": 0}, {"count": "9"}, {"card": []}, {"card": {"title": {}}}, {"classes": [1]}]
)
def test_a_recipe_that_is_none_is_refused(body: Any) -> None:
    check_recipe(recipe(), "here")
    with pytest.raises(UsageError):
        check_recipe(body, "here")


def test_a_dataset_whose_recipe_is_damaged_says_so(tmp_path: Path) -> None:
    root = make(tmp_path / "small")
    (root / "recipe.yaml").write_text("card: [")
    with pytest.raises(MismatchError, match=r"recipe\.yaml"):
        Store(root).recipe()
