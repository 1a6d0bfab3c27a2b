"""Words, boxes and files become regions of an image."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrsynth.domain import regions
from cxrsynth.errors import UsageError
from tests import anatomies

CHEST = anatomies.chest(0.4, 128)


def centre(region: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(region)
    return float(rows.mean()), float(columns.mean())


@pytest.mark.parametrize("side", ["right", "left"])
def test_zones_lie_in_their_lung_from_top_to_bottom(side: str) -> None:
    zones = [regions.resolve(f"{side} {zone} zone", CHEST) for zone in ("upper", "mid", "lower")]
    lung = {"right": 1, "left": 2}[side] == CHEST
    assert all((zone & ~lung).sum() == 0 for zone in zones)
    assert centre(zones[0])[0] < centre(zones[1])[0] < centre(zones[2])[0]
    np.testing.assert_array_equal(np.any(zones, axis=0), lung)


def test_the_patients_right_is_on_the_left_of_the_picture() -> None:
    assert centre(regions.resolve("right lung", CHEST))[1] < 64 < centre(regions.resolve("left lung", CHEST))[1]


def test_the_costophrenic_angle_is_the_lower_outer_corner() -> None:
    angle, lung = regions.resolve("left costophrenic angle", CHEST), regions.resolve("left lung", CHEST)
    assert centre(angle)[0] > centre(lung)[0]
    assert centre(angle)[1] > centre(lung)[1]


def test_words_without_a_side_mean_both() -> None:
    both = regions.resolve("bilateral lower zones", CHEST)
    assert (both & (CHEST == 1)).any()
    assert (both & (CHEST == 2)).any()


def test_what_lies_behind_the_heart_is_on_its_left() -> None:
    hidden = regions.resolve("retrocardiac", CHEST)
    assert (hidden & (CHEST != 3)).sum() == 0
    assert centre(hidden)[1] > centre(CHEST == 3)[1]


@pytest.mark.parametrize("words", ["spleen", "somewhere", "", "left knee"])
def test_words_that_name_no_place_are_an_error_that_shows_some(words: str) -> None:
    with pytest.raises(UsageError, match="no place") as caught:
        regions.resolve(words, CHEST)
    assert "left lower zone" in caught.value.hint


@pytest.mark.parametrize(("words", "gone"), [("left lower zone", 2), ("heart", 3)])
def test_words_for_what_an_image_does_not_have_are_an_error(words: str, gone: int) -> None:
    with pytest.raises(UsageError, match="nowhere in this image"):
        regions.resolve(words, np.where(gone == CHEST, 0, CHEST))


def test_a_box_is_a_part_of_the_picture() -> None:
    region = regions.box_region((0.25, 0.25, 0.5, 0.75), CHEST)
    rows, columns = np.nonzero(region)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (32, 95, 32, 63)


@pytest.mark.parametrize(
    ("box", "what"), [((0.0, 0.0, 0.03, 0.03), "outside the body"), ((0.5, 0.5, 0.4, 0.9), "is not left, top")]
)
def test_a_box_outside_the_body_or_upside_down_is_an_error(box: regions.Box, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        regions.box_region(box, CHEST)


def test_a_mask_file_says_where(tmp_path: Path) -> None:
    Image.fromarray(((CHEST == 2) * 255).astype(np.uint8)).save(tmp_path / "region.png")
    np.testing.assert_array_equal(regions.file_region(tmp_path / "region.png", CHEST), CHEST == 2)


@pytest.mark.parametrize(
    ("pixels", "what"),
    [
        (np.full((64, 64), 255, np.uint8), "64 x 64 pixels, the image 128 x 128"),
        (np.zeros((128, 128), np.uint8), "is empty"),
        (np.pad(np.full((4, 4), 255, np.uint8), ((0, 124), (0, 124))), "outside the body"),
    ],
)
def test_a_mask_file_that_does_not_fit_says_why(pixels: np.ndarray, what: str, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "region.png")
    with pytest.raises(UsageError, match=what):
        regions.file_region(tmp_path / "region.png", CHEST)


@pytest.mark.parametrize("seed", range(4))
def test_a_patch_lies_in_its_region_and_is_smaller(seed: int) -> None:
    region = regions.resolve("right lung", CHEST)
    patch = regions.blob(region, seed)
    assert 0 < patch.sum() < region.sum()
    assert not (patch & ~region).any()
    np.testing.assert_array_equal(patch, regions.blob(region, seed))


def test_patches_of_two_seeds_differ() -> None:
    region = regions.resolve("right lung", CHEST)
    assert (regions.blob(region, 1) != regions.blob(region, 2)).any()
