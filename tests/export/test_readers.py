"""Every format is read back by its own ecosystem, and says what the dataset says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

from cxrsynth.export import export
from cxrsynth.pages.summary import Summary, summarise
from cxrsynth.records import Row

SETS = ("plain", "layered")


@pytest.fixture(params=SETS)
def data(request: pytest.FixtureRequest) -> Path:
    """A dataset without, then one with overlapping classes."""
    return request.getfixturevalue(f"{request.param}_data")


def truth(dataset: Path) -> dict[str, tuple[Row, np.ndarray, dict[str, np.ndarray]]]:
    """Key -> row, (H, W) uint8 image, class name -> (H, W) bool."""
    summary: Summary = summarise(dataset)
    names = {label.id: label.name for label in summary.labels}
    return {
        row["key"]: (
            row,
            summary.store.load_image(row),
            {names[number]: region for number, region in summary.regions(row).items()},
        )
        for row in summary.rows
    }


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_datasets_reads_images_masks_names_prompts_and_fields(data: Path, tmp_path: Path) -> None:
    from datasets import Image as ImageFeature
    from datasets import load_dataset

    export(data, "hf", tmp_path / "hf")
    found = load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    assert list(found) == ["train", "validation", "test"]
    expected = truth(data)
    for split, part in found.items():
        assert isinstance(part.features["image"], ImageFeature)
        assert isinstance(part.features["mask"], ImageFeature)
        for item in part:
            row, image, regions = expected.pop(item["key"])
            assert row["split"] == {"validation": "val"}.get(split, split)
            assert np.array_equal(np.asarray(item["image"]), image)
            assert item["prompt"] == row["prompt"]
            assert item["synthetic"] is True
            if "layers" not in row:
                for name, region in regions.items():
                    assert np.array_equal(np.asarray(item["mask"]) == item["classes"][name], region)
    assert not expected


def test_pycocotools_reads_every_class_as_instances(data: Path, tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from scipy import ndimage

    export(data, "coco", tmp_path / "coco")
    expected = truth(data)
    for split in ("train", "val", "test"):
        coco = COCO(str(tmp_path / f"coco/annotations/instances_{split}.json"))
        names = {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())}
        for entry in coco.loadImgs(coco.getImgIds()):
            row, image, regions = expected.pop(entry["key"])
            picture = np.asarray(Image.open(tmp_path / "coco/images" / split / entry["file_name"]))
            assert row["split"] == split
            assert np.array_equal(picture, image)
            assert (entry["height"], entry["width"]) == image.shape
            instances = coco.loadAnns(coco.getAnnIds(imgIds=[entry["id"]]))
            for name, region in regions.items():
                mine = [one for one in instances if names[one["category_id"]] == name]
                together = np.any([coco.annToMask(one).astype(bool) for one in mine], axis=0)
                assert np.array_equal(together, region)
                assert sum(one["area"] for one in mine) == region.sum()
                finding = name in ("opacity", "effusion")
                assert len(mine) == (ndimage.label(region, np.ones((3, 3)))[1] if finding else 1)
            assert {names[one["category_id"]] for one in instances} == set(regions)
    assert not expected


def integrity(root: Path) -> dict[str, Any]:
    """What nnU-Net's verify_dataset_integrity asks of a dataset folder of 2D PNGs; returns its dataset.json."""
    body = json.loads((root / "dataset.json").read_text())
    ending = body["file_ending"]
    held = [np.unique(value).tolist() for value in body["labels"].values()]
    values = sorted({number for part in held for number in part})
    assert body["labels"]["background"] == 0
    assert values == list(range(len(values))), "labels are consecutive"
    assert body["labels"].get("ignore", values[-1]) == values[-1], "the ignore label is the highest"
    if any(isinstance(value, list) for value in body["labels"].values()):
        regions = [name for name in body["labels"] if name not in ("background", "ignore")]
        assert len(body["regions_class_order"]) == len(regions)
    for where, count in (("Tr", body["numTraining"]), ("Ts", None)):
        cases = sorted(path.name.removesuffix(ending) for path in (root / f"labels{where}").glob(f"*{ending}"))
        images = sorted(path.name for path in (root / f"images{where}").iterdir())
        assert images == [
            f"{case}_{channel:04d}{ending}" for case in cases for channel in range(len(body["channel_names"]))
        ]
        assert count in (None, len(cases))
        for case in cases:
            label = np.asarray(Image.open(root / f"labels{where}/{case}{ending}"))
            assert label.shape == np.asarray(Image.open(root / f"images{where}/{case}_0000{ending}")).shape
            assert set(np.unique(label)) <= set(values)
    return body


def test_nnunet_finds_a_dataset_that_keeps_its_rules_and_every_class(data: Path, tmp_path: Path) -> None:
    export(data, "nnunet", tmp_path / "raw")
    (root,) = (tmp_path / "raw").glob("Dataset*")
    assert root.name == "Dataset501_small"
    body = integrity(root)
    (fold,) = json.loads((root / "splits_final.json").read_text())
    for key, (row, image, regions) in truth(data).items():
        where = "Ts" if row["split"] == "test" else "Tr"
        assert row["split"] == "test" or key in fold[row["split"]]
        label = np.asarray(Image.open(root / f"labels{where}/{key}.png"))
        assert np.array_equal(np.asarray(Image.open(root / f"images{where}/{key}_0000.png")), image)
        for name, region in regions.items():
            assert np.array_equal(np.isin(label, body["labels"][name]), region)


def test_painting_nnunets_regions_in_order_gives_the_masks_of_the_dataset(layered_data: Path, tmp_path: Path) -> None:
    export(layered_data, "nnunet", tmp_path / "Dataset777_chests")
    root = tmp_path / "Dataset777_chests"
    body = integrity(root)
    regions = [name for name in body["labels"] if name != "background"]
    summary = summarise(layered_data)
    ids = summary.store.classes()
    for row in summary.rows:
        where = "Ts" if row["split"] == "test" else "Tr"
        label = np.asarray(Image.open(root / f"labels{where}/{row['key']}.png"))
        painted = np.zeros_like(label)
        for name, value in zip(regions, body["regions_class_order"], strict=True):
            painted[np.isin(label, body["labels"][name])] = ids[list(ids)[value - 1]]
        stored, found = summary.store.load_mask(row), summary.regions(row)
        # Where the layers of two organs meet, the dataset's masks show the likelier one, which an order cannot know.
        organs = [found[ids[name]] for name in ("right_lung", "left_lung", "heart")]
        alone = np.sum(organs, axis=0) < 2
        assert np.array_equal(painted[alone], stored[alone])
        assert alone.mean() > 0.95


def read_yolo(path: Path, width: int, height: int) -> dict[int, np.ndarray]:
    """Class number -> (H, W) bool, the polygons of a label file filled in."""
    found: dict[int, np.ndarray] = {}
    for line in path.read_text().splitlines():
        number, *values = line.split()
        corners = np.array(values, float).reshape(-1, 2)
        assert len(corners) >= 3
        assert corners.min() >= 0
        assert corners.max() <= 1
        # Filled eight times as large, so that the drawing's own half pixel does not count.
        canvas = Image.new("L", (8 * width, 8 * height))
        ImageDraw.Draw(canvas).polygon([tuple(corner) for corner in corners * (8 * width, 8 * height)], fill=1)
        filled = np.asarray(canvas)[4::8, 4::8].astype(bool)
        found[int(number)] = found.get(int(number), np.zeros_like(filled)) | filled
    return found


def test_yolo_polygons_cover_the_masks(data: Path, tmp_path: Path) -> None:
    export(data, "yolo", tmp_path / "yolo")
    body = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())
    for _, (row, image, regions) in truth(data).items():
        path = tmp_path / "yolo" / body[row["split"]] / f"{row['key']}.png"
        assert np.array_equal(np.asarray(Image.open(path)), image)
        labels = Path(str(path).replace("/images/", "/labels/")).with_suffix(".txt")
        found = {body["names"][number]: mask for number, mask in read_yolo(labels, *image.shape[::-1]).items()}
        assert set(found) == set(regions)
        assert all(dice(found[name], region) > 0.99 for name, region in regions.items())


def test_webdataset_reads_every_sample_once(data: Path, tmp_path: Path) -> None:
    import webdataset

    export(data, "webdataset", tmp_path / "wds")
    expected = truth(data)
    for split in ("train", "val", "test"):
        urls = [str(path) for path in sorted((tmp_path / "wds").glob(f"{split}-*.tar"))]
        for sample in webdataset.WebDataset(urls, shardshuffle=False).decode("l8"):
            row, image, _ = expected.pop(sample["json"]["key"])
            assert row["split"] == split
            assert np.array_equal(sample["png"], image)
            assert np.array_equal(sample["mask.png"], np.asarray(Image.open(data / row["mask"])))
            assert sample["json"]["prompt"] == row["prompt"]
    assert not expected


def test_monai_loads_images_and_labels(data: Path, tmp_path: Path) -> None:
    from monai.data import load_decathlon_datalist
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

    export(data, "monai", tmp_path / "monai")
    body = json.loads((tmp_path / "monai/dataset.json").read_text())
    read = Compose([LoadImaged(["image", "label"]), EnsureChannelFirstd(["image", "label"])])
    expected = truth(data)
    for key, split in (("training", "train"), ("validation", "val"), ("test", "test")):
        for item in load_decathlon_datalist(str(tmp_path / "monai/dataset.json"), True, key):
            row, image, regions = expected.pop(item["key"])
            assert row["split"] == split
            loaded = read(item)
            # MONAI puts columns first.
            assert np.array_equal(loaded["image"][0].numpy().T, image)
            for number, name in body["labels"].items():
                channel = (
                    loaded["label"][int(number)] == 1 if len(loaded["label"]) > 1 else loaded["label"][0] == int(number)
                )
                if name != "background":
                    assert np.array_equal(channel.numpy().T, regions.get(name, np.zeros(image.shape, bool)))
    assert not expected


def test_splits_are_kept_in_every_format(plain_data: Path, tmp_path: Path) -> None:
    wanted = Counter(row["split"] for row in summarise(plain_data).rows)
    for form in ("hf", "nnunet", "coco", "yolo", "webdataset", "monai", "dicom"):
        assert export(plain_data, form, tmp_path / form).images == wanted
