"""Two sets of masks are compared image by image, class by class."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrsynth.errors import UsageError
from cxrsynth.evaluate.masks import compare_masks
from tests.conftest import cli
from tests.small_dataset import CLASSES, chest, make, make_real


def folder(root: Path, masks: dict[str, np.ndarray], classes: dict[str, int] | None = None) -> Path:
    root.mkdir()
    for key, mask in masks.items():
        Image.fromarray(mask).save(root / f"{key}.png")
    if classes:
        items = [{"name": name, "id": value} for name, value in classes.items()]
        (root / "classes.json").write_text(json.dumps({"classes": items}))
    return root


def test_masks_agree_with_themselves_entirely(tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    found = compare_masks(data, data)
    assert len(found.images) == 6
    assert all(one["dice"] == 1 and one["hd95"] == 0 for image in found.images for one in image.values())


def test_classes_are_matched_by_name_not_by_number(tmp_path: Path) -> None:
    mask = chest(0)[1]
    truth = folder(tmp_path / "true", {"a": mask}, CLASSES)
    swapped = np.array([0, 20, 10, 3], np.uint8)[mask]
    pred = folder(tmp_path / "pred", {"a": swapped}, {"left_lung": 10, "right_lung": 20, "heart": 3})
    assert [one["dice"] for one in compare_masks(pred, truth).images[0].values()] == [1, 1, 1]


def test_a_smaller_prediction_is_brought_to_the_size_of_the_truth(tmp_path: Path) -> None:
    mask = chest(0)[1]
    truth, pred = folder(tmp_path / "true", {"a": mask}), folder(tmp_path / "pred", {"a": mask[::2, ::2]})
    found = compare_masks(pred, truth)
    assert found.resized == 1
    assert min(one["dice"] for one in found.images[0].values()) > 0.9


def test_an_image_without_a_prediction_is_named_and_in_no_figure(tmp_path: Path) -> None:
    mask = chest(0)[1]
    truth = folder(tmp_path / "true", {"a": mask, "b": mask})
    found = compare_masks(folder(tmp_path / "pred", {"a": mask}), truth)
    assert (found.keys, found.missing) == (["a"], ["b"])


def test_a_class_that_nobody_looked_for_in_an_image_does_not_count(tmp_path: Path) -> None:
    truth = make_real(tmp_path / "real")
    meta = truth / "meta/00000.jsonl"
    rows = [json.loads(line) for line in meta.read_text().splitlines()]
    rows[0]["mask_classes"] = ["heart"]
    meta.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = compare_masks(truth, truth)
    assert np.isnan(found.images[0]["right_lung"]["dice"])
    assert found.images[0]["heart"]["dice"] == found.images[1]["right_lung"]["dice"] == 1


def test_sets_without_a_common_image_are_an_error(tmp_path: Path) -> None:
    mask = chest(0)[1]
    with pytest.raises(UsageError, match="no image in common"):
        compare_masks(folder(tmp_path / "a", {"x": mask}), folder(tmp_path / "b", {"y": mask}))


def test_the_command_writes_json_and_the_worst_images(tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    asked = cli("evaluate", "masks", data, data, "--worst", tmp_path / "worst.png", "--json")
    assert asked.returncode == 0, asked.stderr
    body = json.loads(asked.stdout)
    assert {one["class"] for one in body["summary"]} == {*CLASSES, "mean"}
    assert Image.open(tmp_path / "worst.png").width > 400
