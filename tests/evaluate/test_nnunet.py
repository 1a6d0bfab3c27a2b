"""nnU-Net's predictions are compared as they lie in its output folder: a flat folder of PNGs with a dataset.json."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrsynth.errors import UsageError
from cxrsynth.evaluate.masks import compare_masks
from cxrsynth.evaluate.nnunet import case_names
from cxrsynth.export import export
from cxrsynth.pages.summary import summarise


def predictions(data: Path, raw: Path, out: Path) -> Path:
    """What nnU-Net would write for the test images of an export if it were always right."""
    export(data, "nnunet", raw / "Dataset501_small")
    body = json.loads((raw / "Dataset501_small/dataset.json").read_text())
    names = [name for name in body["labels"] if name != "background"]
    order = body.get("regions_class_order") or [body["labels"][name] for name in names]
    out.mkdir()
    (out / "dataset.json").write_text(json.dumps(body))
    (out / "plans.json").write_text("{}")
    summary = summarise(data)
    numbers = {label.id: label.name for label in summary.labels}
    for row in summary.rows:
        regions = {numbers[number]: region for number, region in summary.regions(row).items()}
        painted = np.zeros(summary.store.load_image(row).shape, np.uint8)
        for name, value in zip(names, order, strict=True):
            painted[regions.get(name, np.zeros(painted.shape, bool))] = value
        Image.fromarray(painted).save(out / f"{row['key']}.png")
    return out


@pytest.mark.parametrize("kind", ["plain", "layered"])
def test_predictions_are_compared_with_the_dataset_by_class_name(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data = request.getfixturevalue(f"{kind}_data")
    found = compare_masks(predictions(data, tmp_path / "raw", tmp_path / "pred"), data)
    assert (len(found.keys), found.missing) == (6, [])
    assert set(found.images[0]) == set(summarise(data).store.classes())
    scores = [one["dice"] for image in found.images for one in image.values() if not np.isnan(one["dice"])]
    # Where two organs meet, the dataset shows the likelier one and a painted prediction the later one.
    assert min(scores) > 0.95


def test_a_channel_number_belongs_to_the_file_not_to_the_case() -> None:
    assert case_names(["chest_1_0000", "chest_2_0000"]) == ["chest_1", "chest_2"]
    assert case_names(["chest_0001", "other"]) == ["chest_0001", "other"]
    with pytest.raises(UsageError, match="several channels"):
        case_names(["chest_0000", "chest_0001"])


def test_labels_that_stand_for_several_classes_are_not_taken_for_one(layered_data: Path, tmp_path: Path) -> None:
    export(layered_data, "nnunet", tmp_path / "Dataset501_small")
    with pytest.raises(UsageError, match="several classes at once") as caught:
        compare_masks(tmp_path / "Dataset501_small/labelsTs", layered_data)
    assert "dataset that was exported" in caught.value.hint


def test_labels_of_an_export_without_overlaps_are_masks_too(plain_data: Path, tmp_path: Path) -> None:
    export(plain_data, "nnunet", tmp_path / "Dataset501_small")
    found = compare_masks(tmp_path / "Dataset501_small/labelsTs", plain_data, ["test"])
    assert all(one["dice"] == 1 for image in found.images for one in image.values())
