"""Dice, IoU, HD95 and NSD on shapes whose figures can be counted by hand."""

import math

import numpy as np
import pytest

from cxrsynth.errors import MismatchError
from cxrsynth.evaluate.metrics import average, score, summarise, worst
from cxrsynth.evaluate.results import bootstrap

CLASSES = {"lung": 1, "heart": 2}


def square(left: int, side: int = 10, size: int = 40, number: int = 1) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[10 : 10 + side, left : left + side] = number
    return mask


def test_a_mask_agrees_with_itself() -> None:
    found = score(square(5), square(5), {"lung": 1})["lung"]
    assert found == {"dice": 1.0, "iou": 1.0, "hd95": 0.0, "nsd": 1.0}


def test_half_an_overlap() -> None:
    found = score(square(5), square(10), {"lung": 1})["lung"]
    assert found["dice"] == pytest.approx(0.5)
    assert found["iou"] == pytest.approx(1 / 3)


def test_a_shift_is_the_distance_of_the_rims() -> None:
    assert score(square(5), square(8), {"lung": 1})["lung"]["hd95"] == 3.0


def test_distances_are_in_the_unit_of_the_spacing() -> None:
    found = score(square(5), square(8), {"lung": 1}, spacing=(9.0, 0.5))["lung"]
    assert found["hd95"] == 1.5
    assert found["nsd"] == 1.0


def test_rims_within_the_tolerance_agree() -> None:
    near, far = (score(square(5), square(9), {"lung": 1}, tolerance=t)["lung"]["nsd"] for t in (4.0, 1.0))
    assert near == 1.0
    assert 0 < far < 1


def test_distances_do_not_depend_on_where_the_shapes_lie() -> None:
    first = score(square(0), square(3), {"lung": 1})["lung"]
    second = score(square(20), square(23), {"lung": 1})["lung"]
    assert first == second


def test_a_class_in_neither_map_does_not_count() -> None:
    found = score(square(5), square(5), CLASSES)
    assert all(math.isnan(value) for value in found["heart"].values())
    assert average([found], "dice")[0] == 1.0


@pytest.mark.parametrize("swapped", [False, True])
def test_a_class_in_only_one_map_is_as_wrong_as_can_be(swapped: bool) -> None:
    pair = (square(5), np.zeros((40, 40), np.uint8))
    found = score(*(pair[::-1] if swapped else pair), {"lung": 1})["lung"]
    assert (found["dice"], found["iou"], found["nsd"]) == (0.0, 0.0, 0.0)
    assert found["hd95"] == pytest.approx(40 * math.sqrt(2))


def test_unlabelled_pixels_count_for_nobody() -> None:
    truth, mask = square(5), square(5)
    mask[30:, 30:] = 1
    truth[30:, 30:] = 255
    assert score(truth, mask, {"lung": 1})["lung"]["dice"] == 1.0


def test_maps_of_different_sizes_are_refused() -> None:
    with pytest.raises(MismatchError, match="40x40"):
        score(square(5), square(5, size=50), CLASSES)


def test_the_interval_is_generated_by_patient() -> None:
    images = [score(square(5), square(5 + shift), {"lung": 1}) for shift in (0, 0, 0, 5, 5, 5)]
    alone = summarise(images, [str(i) for i in range(6)])[0]
    together = summarise(images, ["a", "a", "a", "b", "b", "b"])[0]
    assert alone["value"] == together["value"] == pytest.approx(0.75)
    assert together["hi"] - together["lo"] > alone["hi"] - alone["lo"]
    assert (together["lo"], together["hi"]) == (0.5, 1.0)


def test_the_summary_counts_only_images_that_show_the_class() -> None:
    images = [score(square(5), square(5), CLASSES), score(square(5, number=2), square(5, number=2), CLASSES)]
    assert {item["class"]: item["n"] for item in summarise(images, ["a", "b"])} == {"lung": 1, "heart": 1, "mean": 2}


def test_the_worst_image_comes_first() -> None:
    images = [score(square(5), square(5 + shift), {"lung": 1}) for shift in (1, 4, 0)]
    assert list(worst(images)) == [1, 0, 2]


def test_the_quick_way_to_the_interval_of_a_mean_is_the_long_one() -> None:
    values = np.random.default_rng(0).normal(size=30)
    patients = [f"p{i % 11}" for i in range(30)]
    long = bootstrap(values, patients, lambda chosen: float(np.nanmean(chosen)))
    assert bootstrap(values, patients) == pytest.approx(long)
