"""A dataset folder opens by itself in `datasets`, with splits, images, masks, class names, prompts and fields."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Image, load_dataset

from cxrsynth.pages.card import write_card
from cxrsynth.pages.card.hub import split_name
from cxrsynth.store import Store
from tests.small_dataset import CLASSES, make, make_real


def opened(root: Path, cache: Path, *config: str) -> Any:
    return load_dataset(str(root), *config, cache_dir=str(cache))


@pytest.mark.parametrize("kind", ["plain", "layered"])
def test_a_generated_dataset_opens_with_its_splits_and_masks(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(request.getfixturevalue(f"{kind}_data"), root)
    write_card(root)
    found = opened(root, tmp_path / "cache")
    assert {name: len(part) for name, part in found.items()} == {"train": 2, "validation": 3, "test": 1}
    rows = {row["key"]: row for row in Store(root).rows()}
    for part in found.values():
        assert isinstance(part.features["image"], Image)
        for item in part:
            row = rows.pop(item["key"])
            assert np.array_equal(np.asarray(item["image"]), Store(root).load_image(row))
            assert np.array_equal(np.asarray(item["mask"]), Store(root).load_mask(row))
            assert item["classes"] == Store(root).classes()
            assert (item["prompt"], item.get("fields", {})) == (row["prompt"], row["fields"])
            assert item["scores"]["area.heart"] == pytest.approx(row["scores"]["area.heart"])
            assert (item["synthetic"], item["licence"]) == (True, "CC0-1.0")
    assert not rows


def test_a_partly_labelled_dataset_opens_with_masks_and_has_all_images_beside(tmp_path: Path) -> None:
    root = make_real(tmp_path / "data")
    write_card(root)
    assert len(opened(root, tmp_path / "cache")["train"]) == 2
    every = opened(root, tmp_path / "cache", "images")["train"]
    assert (len(every), "mask" in every.features) == (3, False)


def test_columns_that_a_split_does_not_fill_do_not_keep_it_from_opening(tmp_path: Path) -> None:
    root = make(tmp_path / "data")
    for meta in (root / "meta").glob("*.jsonl"):
        rows = [json.loads(line) for line in meta.read_text().splitlines()]
        for row in rows:
            row["note"] = "seen" if row["split"] == "train" else None
            row["age"] = 40.5 if row["split"] == "train" else None
            row["findings"] = ["effusion"] if row["split"] == "test" else []
            row["scores"] |= {"duplicate": None if row["split"] == "val" else 0.5}
        meta.write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_card(root)
    found = opened(root, tmp_path / "cache")
    assert found["train"][0]["note"] == "seen"
    assert found["test"][0]["findings"] == "effusion"
    assert "duplicate" not in found["train"][0]["scores"]
    assert found["train"][0]["classes"] == CLASSES


def test_the_reserved_name_of_a_split_is_altered() -> None:
    assert split_name("all") == "all_images"
    assert split_name("val") == "validation"
    assert split_name("my split-2") == "my_split_2"
