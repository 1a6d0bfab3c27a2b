"""Maps become probabilities, jointly."""

import numpy as np
import pytest

from cxrsynth.masks.attention import Calibrated, Joint, upsample
from cxrsynth.masks.layers import paint

ALL = np.ones(3, bool)
IDS = [1, 2, 3]


def blobs(peaks: tuple[float, ...] = (0.6, 0.5, 0.4), pedestal: float = 0.0, grid: int = 16) -> np.ndarray:
    """Three soft blobs side by side on a grid, over a pedestal that is a fraction of each peak."""
    rows, columns = (np.mgrid[:grid, :grid] + 0.5) / grid
    shapes = [np.exp(-((((rows - 0.5) / 0.25) ** 2 + ((columns - at) / 0.12) ** 2) ** 2)) for at in (0.2, 0.8, 0.5)]
    return np.stack(
        [peak * (pedestal + (1 - pedestal) * shape) for peak, shape in zip(peaks, shapes, strict=True)]
    ).astype(np.float32)


def centres(mask: np.ndarray) -> list[float]:
    return [np.flatnonzero((mask == k).any(axis=0)).mean() / mask.shape[1] for k in IDS]


def test_classes_and_background_sum_to_one() -> None:
    prob = Joint()(blobs(), 64, 64, ALL).prob
    assert prob.dtype == np.float32
    assert prob.min() >= 0
    assert prob.sum(axis=0).max() <= 1 + 1e-6


@pytest.mark.parametrize("pedestal", [0.0, 0.4], ids=["grounded", "plain"])
def test_sharp_and_blurry_maps_are_found_where_they_are(pedestal: float) -> None:
    mask = paint(Joint()(blobs(pedestal=pedestal), 128, 128, ALL).prob, ALL, IDS)
    assert centres(mask) == pytest.approx([0.2, 0.8, 0.5], abs=0.03)
    areas = [(mask == k).mean() for k in IDS]
    assert min(areas) > 0.05
    assert max(areas) < 0.2


@pytest.mark.parametrize("seed", range(5))
def test_an_absent_class_gets_no_mask(seed: int) -> None:
    maps = blobs()
    maps[2] = 0.02 * np.abs(np.random.default_rng(seed).standard_normal(maps[2].shape))
    evidence = Joint()(maps, 64, 64, ALL)
    assert evidence.prob[2].max() == 0
    assert evidence.presence[2] < 0.05 < 0.5 < evidence.presence[0]


@pytest.mark.parametrize("seed", range(5))
def test_an_absent_class_of_a_plain_model_gets_no_mask(seed: int) -> None:
    maps = blobs((0.06, 0.05, 0.04), pedestal=0.4)
    maps[2] = 0.02 * (1 + 0.15 * np.random.default_rng(seed).standard_normal(maps[2].shape))
    assert Joint()(maps, 64, 64, ALL).prob[2].max() == 0


def test_all_maps_times_the_same_number_give_the_same_masks() -> None:
    one, two = (Joint()(blobs() * factor, 64, 64, ALL).prob for factor in (1.0, 0.01))
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_gamma_moves_no_boundary() -> None:
    soft, hard = (paint(Joint(gamma=gamma)(blobs(), 64, 64, ALL).prob, ALL, IDS) for gamma in (1.0, 6.0))
    assert (soft != hard).mean() < 0.001


def test_a_higher_background_makes_smaller_masks() -> None:
    areas = [(paint(Joint(background=b)(blobs(), 64, 64, ALL).prob, ALL, IDS) > 0).mean() for b in (0.3, 0.5, 0.7)]
    assert areas[0] > areas[1] > areas[2]


def test_an_overlapping_class_leaves_the_others_as_they_are() -> None:
    maps = blobs()
    four = np.concatenate([maps, maps[:1]])
    over = Joint()(four, 64, 64, np.array([True, True, True, False])).prob
    np.testing.assert_allclose(over[:3], Joint()(maps, 64, 64, ALL).prob, atol=1e-6)


def with_finding(peak: float) -> np.ndarray:
    """Anatomy, and a fourth map whose values are shares."""
    return np.concatenate([blobs(), blobs((peak, peak, peak))[2:]])


OVER = np.array([True, True, True, False])


@pytest.mark.parametrize(("peak", "there"), [(0.3, False), (0.8, True)])
def test_a_gate_decides_whether_a_finding_is_there_whatever_the_anatomy(peak: float, there: bool) -> None:
    known = Calibrated(np.array([np.nan, np.nan, np.nan, 0.5]), np.full(4, np.nan))
    evidence = Joint()(with_finding(peak), 64, 64, OVER, known)
    assert bool((evidence.prob[3] > 0.5).any()) is there
    np.testing.assert_allclose(evidence.prob[:3], Joint()(blobs(), 64, 64, ALL).prob, atol=1e-6)


def test_a_level_is_where_the_mask_of_a_finding_ends() -> None:
    maps = with_finding(0.9)
    known = Calibrated(np.full(4, np.nan), np.array([np.nan, np.nan, np.nan, 0.6]))
    mask = Joint()(maps, 64, 64, OVER, known).prob[3] > 0.5
    np.testing.assert_array_equal(mask, upsample(maps[3:], 64, 64)[0] > 0.6)


def test_strong_shares_of_findings_do_not_make_the_anatomy_absent() -> None:
    faint = np.concatenate([0.05 * blobs(), blobs((1.0, 1.0, 1.0))[2:]])
    assert (Joint()(faint, 64, 64, OVER).presence[:3] > 0.3).all()


def test_a_steep_map_is_more_stable_than_a_shallow_one() -> None:
    rows, columns = (np.mgrid[:16, :16] + 0.5) / 16
    far = np.hypot(rows - 0.5, columns - 0.5)
    maps = np.stack([np.clip((0.3 - far) / 0.05, 0, 1), np.clip(1 - far / 0.6, 0, 1)]).astype(np.float32)
    steep, shallow = Joint()(maps, 64, 64, np.ones(2, bool)).stability
    assert steep > shallow + 0.2


@pytest.mark.parametrize("maps", [np.zeros((3, 8, 8)), np.full((3, 8, 8), np.nan), np.full((3, 8, 8), 0.3)])
def test_maps_that_say_nothing_give_no_mask(maps: np.ndarray) -> None:
    evidence = Joint()(maps.astype(np.float32), 32, 32, ALL)
    assert evidence.prob.max() == 0
    assert np.isfinite(evidence.presence).all()


def test_upsampling_leaves_no_steps() -> None:
    big = upsample(blobs(grid=16), 256, 256)[0]
    assert np.abs(np.diff(big, axis=1)).max() < 3 * 0.6 / 16 * 0.6
    assert big.min() >= 0


def test_upsampling_keeps_the_place_in_pictures_that_are_not_square() -> None:
    maps = np.zeros((1, 8, 16), np.float32)
    maps[0, 2, 12] = 1.0
    big = upsample(maps, 64, 256)[0]
    row, column = np.unravel_index(big.argmax(), big.shape)
    assert (row / 64, column / 256) == (pytest.approx(2.5 / 8, abs=0.02), pytest.approx(12.5 / 16, abs=0.02))
