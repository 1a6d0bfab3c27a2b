"""Prompt adherence is measured: an evaluator that knows, images that follow and images that do not."""

from pathlib import Path

import numpy as np
import pytest

from cxrsynth.encoding import dumps, png
from cxrsynth.errors import UsageError
from cxrsynth.evaluate import controllability as control
from cxrsynth.evaluate.controllability_sheet import control_sheet
from cxrsynth.evaluate.results import Record, record, write
from cxrsynth.generate import build as build_generator
from cxrsynth.recipe import parse
from cxrsynth.records import Entry
from cxrsynth.store import Store
from tests import anatomies
from tests.conftest import CLASSES, latent_body
from tests.labeller import by_tone
from tests.train import chests

NAMES = {"right_lung": 1, "left_lung": 2, "heart": 3, "opacity": 4}


def dataset(root: Path, shift: int = 0, brighter: int = 0) -> Path:
    """Six chests whose imposed masks are theirs moved by ``shift`` rows; a patch of the left lung may be brighter."""
    store = Store(root)
    listed = [{"id": i, "name": name, "phrase": name} for name, i in NAMES.items()]
    store.write("classes.json", dumps({"classes": listed}))
    entries = []
    for number in range(6):
        image, mask = chests.chest(number)
        mask[32:54, 26 - 4 * (number % 3) : 42] = 3
        image[mask == 3] = 230
        imposed = np.roll(mask, shift, axis=0)
        patch = np.zeros(mask.shape, bool)
        patch[20:30, 44:52] = brighter > 0
        image = np.where(patch, image + brighter, image).astype(np.uint8)
        row = {
            "key": f"{number}",
            "prompt": "chest",
            "split": "test",
            "control": {"findings": [{"finding": "opacity", "region": "left lung"}]},
        }
        planes = np.stack([*(imposed == i for i in (1, 2, 3)), patch])
        entries.append(Entry(row, image, imposed, maps={"control": planes}))
    store.write_shard(0, entries, fingerprint="made", planned=[entry.row["key"] for entry in entries])
    return root


def value(records: list[Record], metric: str, klass: str, arm: str = control.CONTROL) -> float:
    (one,) = [r for r in records if (r["metric"], r["class"], r["arm"]) == (metric, klass, arm)]
    return float(one["value"])


def test_images_that_obey_score_higher_than_the_floor(tmp_path: Path) -> None:
    made = dataset(tmp_path / "made")
    free = dataset(tmp_path / "free")
    store = Store(free)
    for row in store.rows():  # other chests: a quarter of the image lower
        store.write(row["image"], png(np.roll(store.load_image(row), 16, axis=0)))
    records = control.anatomy(made, free, by_tone())
    assert value(records, "dice", "lungs") > 0.95 > 0.8 > value(records, "dice", "lungs", control.FREE)
    assert value(records, "correlation", "ctr") > 0.95


def test_masks_that_do_not_fit_their_images_score_low(tmp_path: Path) -> None:
    assert value(control.anatomy(dataset(tmp_path / "off", shift=12), None, by_tone()), "dice", "heart") < 0.8


def test_a_finding_is_measured_inside_and_outside_its_region(tmp_path: Path) -> None:
    before, after = dataset(tmp_path / "before"), dataset(tmp_path / "after", brighter=60)
    records = control.pathology(after, before, None, 0.02)
    assert value(records, "change_inside", "region", "after") == pytest.approx(60)
    assert value(records, "change_outside", "region", "after") == 0
    assert value(records, "psnr_outside", "region", "after") == control.MOST_PSNR


def test_a_region_that_became_darker_falls_and_does_not_rise(tmp_path: Path) -> None:
    darker, lighter = dataset(tmp_path / "darker"), dataset(tmp_path / "lighter", brighter=60)
    store = Store(lighter)
    for row in store.rows():
        patch = (store.load_maps(row) or {})["control"][3]
        store.write(row["image"], png(np.where(patch, 20, store.load_image(row)).astype(np.uint8)))
    fall = value(control.pathology(lighter, darker, None, 0.02), "rise_inside", "region", "lighter")
    assert -60 < fall < -20


def test_the_generated_arm_of_a_comparison_is_told_under_its_folders_name(tmp_path: Path) -> None:
    (tmp_path / "fused").mkdir()
    figure = record("compare", "S-all", "wingspan", "dice", (0.9, 0.8, 1.0), 23, "heart")
    other = record("compare", "R-all", "wingspan", "dice", (0.95, 0.9, 1.0), 23, "heart")
    write(tmp_path / "fused" / "compare.json", [figure, other])
    (told,) = control.downstream_utility(tmp_path / "fused")
    assert (told["arm"], told["benchmark"], told["value"]) == ("fused", control.BENCHMARK, 0.9)
    with pytest.raises(UsageError, match="no comparison"):
        control.downstream_utility(tmp_path)


def test_the_sheet_shows_anatomies_and_pairs(tmp_path: Path) -> None:
    before, after = dataset(tmp_path / "before"), dataset(tmp_path / "after", brighter=60)
    few, more = control_sheet(before), control_sheet(before, [after])
    assert few.width == more.width
    assert few.height < more.height


def test_images_without_imposed_masks_are_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing was imposed"):
        control.read(chests.make(tmp_path / "plain"))


def test_before_and_after_have_to_be_the_same_images(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no image"):
        control.images_of(dataset(tmp_path / "made"), ["0", "77"])


def test_variety_and_cost_are_counted_and_kept(tiny: Path, tmp_path: Path) -> None:
    net = anatomies.network(tmp_path / "net.safetensors")
    maps = anatomies.folder(tmp_path / "maps")
    body = latent_body(tiny, classes=CLASSES, control={"anatomy": {"from": str(maps), "network": str(net)}})
    recipe = parse({**body, "sampler": {"num_inference_steps": 2, "batch": 8}, "masks": {"use": "control"}})
    made = build_generator(recipe, tiny, "cpu")
    records = control.variety(made, recipe, tmp_path / "images.npz")  # type: ignore[arg-type]
    assert value(records, "unet_calls", "anatomy") == 2
    assert value(records, "unet_evaluations", "anatomy") == 4
    assert control.variety(None, recipe, tmp_path / "images.npz") == records  # type: ignore[arg-type]
