"""Figures that can be wrong, on data whose answer is known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from torchmetrics.image.kid import poly_mmd

from cxrsynth.domain.anatomy import cardiothoracic
from cxrsynth.domain.overlap import dice
from cxrsynth.evaluate import results
from cxrsynth.evaluate.adherence import balanced_accuracy
from cxrsynth.evaluate.distances import fid, interval, kid, manifold
from cxrsynth.evaluate.grounding import label, read_maps
from cxrsynth.evaluate.images import likeness, prompt_pairs, random_pairs
from cxrsynth.evaluate.memorisation import correlation
from cxrsynth.statistics import auroc, auroc_interval, auroc_within

RNG = np.random.default_rng(0)


def test_the_kernel_distance_is_zero_for_the_same_source_and_grows_with_the_shift() -> None:
    first, second = RNG.normal(size=(2, 300, 16))
    near, far = kid(first, second), kid(first, second + 0.5)
    assert abs(near) < 0.05
    assert far > 5 * abs(near)


def test_the_kernel_distance_is_that_of_torchmetrics_and_does_not_depend_on_the_number_of_images() -> None:
    first, second = RNG.normal(size=(2, 300, 16))
    assert kid(first, second + 0.3) == pytest.approx(float(poly_mmd(*map(torch.from_numpy, (first, second + 0.3)))))
    assert kid(first[:60], second + 0.3) == pytest.approx(kid(first, second + 0.3), abs=0.1)


def test_the_frechet_distance_of_two_gaussians_is_known() -> None:
    first, second = RNG.normal(size=(2, 4000, 3))
    assert fid(first, second) == pytest.approx(0, abs=0.01)
    # Shift 2 along one axis and twice the spread along another: 2^2 + (2 - 1)^2.
    assert fid(first, second * [1, 2, 1] + [2, 0, 0]) == pytest.approx(5, abs=0.3)


def test_the_frechet_distance_scales_with_the_square_of_the_features() -> None:
    first, second = RNG.normal(size=(2, 200, 4))
    assert fid(1e-3 * first, 1e-3 * second + 1e-3) == pytest.approx(1e-6 * fid(first, second + 1), rel=1e-3)


def test_the_frechet_distance_of_few_images_does_not_depend_on_empty_directions() -> None:
    first, second = RNG.normal(size=(2, 8, 10))
    wide = np.zeros((10, 40))
    wide[:, ::4] = np.eye(10)
    assert fid(first @ wide, second @ wide) == pytest.approx(fid(first, second), rel=1e-4)


def test_pairs_of_a_prompt_share_the_prompt() -> None:
    prompts = ["a", "b", "a", "c", "a", "b"]
    pairs = prompt_pairs(prompts)
    assert sorted(map(tuple, pairs.tolist())) == [(0, 2), (1, 5), (2, 4)]
    assert len(prompt_pairs(["a", "b"])) == 0


def test_a_judge_that_always_says_yes_agrees_by_chance() -> None:
    truth = np.array([1, 1, 1, 0])
    assert balanced_accuracy(np.stack([np.ones(4), truth], axis=1)) == 0.5


def test_collapse_shows_in_recall_and_coverage_not_in_precision() -> None:
    real = RNG.normal(size=(200, 4))
    collapsed = real[:1] + 0.01 * RNG.normal(size=(200, 4))
    figures = {name: values.mean() for name, values in manifold(real, collapsed).items()}
    assert figures["precision"] > 0.95
    assert figures["recall"] < 0.1
    assert figures["coverage"] < 0.2


def test_a_copy_is_found_also_when_its_tone_differs() -> None:
    images = RNG.integers(256, size=(5, 64, 64)).astype(np.uint8)
    copy = (images[3:4] * 0.5 + 40).astype(np.uint8)
    assert correlation(copy, images).argmax() == 3
    assert correlation(copy, images).max() > 0.95


def test_pairs_of_the_same_image_are_alike() -> None:
    image = RNG.integers(256, size=(1, 128, 128)).astype(np.uint8)
    assert likeness(np.repeat(image, 3, axis=0), random_pairs(3, 2)) == pytest.approx(1.0, abs=1e-4)


def test_the_heart_is_measured_against_the_outer_edges_of_the_lungs() -> None:
    mask = np.zeros((50, 100), np.uint8)
    mask[10:40, 10:40], mask[10:40, 60:90], mask[20:40, 35:75] = 1, 2, 3
    ids = {"right_lung": 1, "left_lung": 2, "heart": 3}
    assert cardiothoracic(mask, ids) == pytest.approx(0.5)
    assert np.isnan(cardiothoracic(np.where(mask == 3, 0, mask), ids))


def test_auroc_counts_ties_as_halves() -> None:
    assert auroc(np.array([[1, 0], [2, 1], [3, 1]])) == 1.0
    assert auroc(np.array([[1, 0], [1, 1]])) == 0.5


@pytest.mark.parametrize("within", [False, True])
def test_the_fast_interval_of_the_auroc_is_that_of_the_slow_one(within: bool) -> None:
    label = RNG.integers(2, size=90)
    values = np.stack([label + RNG.normal(size=90).round(1), label, RNG.integers(2, size=90)], axis=1)
    patients = [str(i // 2) for i in range(90)]
    slow = results.bootstrap(values, patients, auroc_within if within else auroc)
    assert auroc_interval(values, patients, within) == pytest.approx(slow, abs=0.01)


def test_the_interval_draws_patients_not_images() -> None:
    values = np.repeat(RNG.normal(size=10), 30)
    patients = np.repeat([f"p{i}" for i in range(10)], 30)
    _, low, high = results.bootstrap(values)
    _, wide_low, wide_high = results.bootstrap(values, list(patients))
    assert wide_high - wide_low > 3 * (high - low)


def test_measuring_again_replaces_a_figure_and_keeps_the_others(tmp_path: Path) -> None:
    def one(metric: str, value: float) -> results.Record:
        return results.record("taps", "raw", "images", metric, (value, 0, 1), 3, "heart")

    path = tmp_path / "taps.json"
    results.write(path, [one("dice", 0.5), one("iou", 0.4)])
    results.write(path, [one("dice", 0.6)])
    assert {item["metric"]: item["value"] for item in json.loads(path.read_text())} == {"dice": 0.6, "iou": 0.4}


def test_maps_of_real_images_have_the_grid_of_the_latents(tiny: Path) -> None:
    whole = StableDiffusionPipeline.from_pretrained(tiny, torch_dtype=torch.float32)
    images = RNG.integers(256, size=(3, 64, 64)).astype(np.uint8)
    maps = read_maps(whole, images, ["right lung", "heart"], timesteps=(100,))
    assert maps.shape == (3, 2, 16, 16)
    assert (maps > 0).all()
    assert np.array_equal(maps, read_maps(whole, images, ["right lung", "heart"], timesteps=(100,)))


def test_labels_of_clear_maps_are_the_maps() -> None:
    maps = np.zeros((1, 2, 32, 32), np.float32)
    maps[0, 0, 8:24, 2:12], maps[0, 1, 8:24, 20:30] = 0.5, 0.5
    labels = label(maps, 64)[0]
    wanted = np.zeros((64, 64), np.uint8)
    wanted[16:48, 4:24], wanted[16:48, 40:60] = 1, 2
    assert dice(labels == 1, wanted == 1) > 0.9
    assert dice(labels == 2, wanted == 2) > 0.9


def test_the_interval_of_the_kernel_distance_holds_the_distance() -> None:
    first, second = RNG.normal(size=(2, 200, 16))
    value, low, high = interval(kid, first, second + 0.3)
    assert 0 < low < value < high


def test_a_damaged_file_of_results_is_moved_aside_and_no_figure_is_lost(tmp_path: Path) -> None:
    one = results.record("seg", "a", "d", "dice", (0.5, 0.4, 0.6), 3)
    for text in ("[{", "{}", "[1]"):
        (tmp_path / "seg.json").write_text(text)
        results.write(tmp_path / "seg.json", [one])
        assert [item["arm"] for item in json.loads((tmp_path / "seg.json").read_text())] == ["a"]
        assert (tmp_path / "seg.json.damaged").read_text() == text
    results.write(tmp_path / "seg.json", [{**one, "arm": "b"}])
    assert [item["arm"] for item in json.loads((tmp_path / "seg.json").read_text())] == ["a", "b"]
