"""Findings in an image: each has its own shape in the region, enters as attenuation, and is not where it cannot be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cxrsynth.curate import decide
from cxrsynth.data.findings import FINDINGS, CannotCarryError, kind_of, place
from cxrsynth.domain import regions
from cxrsynth.domain.anatomy import CLASSES
from cxrsynth.domain.regions import edge
from cxrsynth.generate.control.feather import transfer
from cxrsynth.generate.control.pathology import Pathology, outline, soft
from cxrsynth.generate.sampler import Latent
from cxrsynth.recipe import AttentionSpec, Sampler
from cxrsynth.recipe.pathology import SEVERITIES, Finding, Inpaint
from cxrsynth.records import Draw, Sample, Spec
from tests import anatomies
from tests.train import chests


@pytest.fixture(scope="module")
def chest() -> tuple[np.ndarray, np.ndarray]:
    """(256, 256) float32 in 0..1 and its anatomy."""
    image, labels = anatomies.pictured()
    return image.astype(np.float32) / 255, labels


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("effusion", "effusion"),
        ("small pleural effusion", "effusion"),
        ("ground-glass opacities", "ground_glass"),
        ("pneumonia", "opacity"),
        ("lung nodules", "nodule"),
        ("enlarged heart", "cardiomegaly"),
        ("tuberculosis", None),
        ("no abnormality", None),
    ],
)
def test_words_mean_the_finding_they_name(words: str, kind: str | None) -> None:
    assert kind_of(words) == kind


@pytest.mark.parametrize("kind", ["opacity", "consolidation", "ground_glass", "nodule", "atelectasis"])
@pytest.mark.parametrize("words", ["left lower zone", "right upper zone"])
def test_a_finding_of_the_lung_lies_in_its_region_and_is_not_the_region(
    kind: str, words: str, chest: tuple[np.ndarray, np.ndarray]
) -> None:
    image, labels = chest
    region = regions.resolve(words, labels)
    mask = place(kind, image, labels, region, 0.4, rng(3)).mask
    assert mask[region].sum() > 0.5 * mask.sum()
    assert (mask & region).sum() < 0.85 * (mask | region).sum()


@pytest.mark.parametrize("kind", ["opacity", "nodule", "effusion", "pneumothorax", "cardiomegaly"])
def test_a_severe_finding_is_larger_than_a_mild_one(kind: str, chest: tuple[np.ndarray, np.ndarray]) -> None:
    image, labels = chest
    region = np.isin(labels, [CLASSES["left_lung"]])
    sizes = [np.mean([place(kind, image, labels, region, severity, rng(i)).mask.sum() for i in range(4)])
             for severity in (0.1, 0.9)]  # fmt: skip
    assert sizes[0] < sizes[1]


def test_a_region_without_lung_is_refused(chest: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(CannotCarryError, match="outside the lungs"):
        place("opacity", *chest, np.zeros(chest[1].shape, bool), 0.5, rng())


@pytest.mark.parametrize("name", FINDINGS)
def test_every_finding_has_both_ends_of_the_scale(name: str) -> None:
    for severity in (0.0, 1.0):
        assert FINDINGS[name]().graded(severity).name == name


def test_severity_is_a_word_a_number_or_two() -> None:
    def read(value: Any) -> tuple[float, float]:
        return Finding(finding="opacity", region="left lung", severity=value).severity

    assert read("moderate") == SEVERITIES["moderate"]
    assert read(0.3) == read("0.3") == (0.3, 0.3)
    assert read([0.1, 0.6]) == (0.1, 0.6)


def test_what_is_added_is_attenuation_so_that_ribs_run_through() -> None:
    image = np.tile(np.array([60, 120], np.uint8), (16, 8))
    flat = np.full((16, 16), 100, np.uint8)
    made = transfer(image, flat, np.full((16, 16), 160, np.uint8), np.ones((16, 16), np.float32))
    passed = (255 - made.astype(float)) / (255 - image.astype(float))
    assert (made > image).all()
    assert passed.std() < 0.02  # the same share of light is taken everywhere: contrast is kept, nothing is pasted


def test_no_difference_changes_no_pixel() -> None:
    image = rng().integers(0, 256, (16, 16)).astype(np.uint8)
    same = np.full((16, 16), 80, np.uint8)
    np.testing.assert_array_equal(transfer(image, same, same, np.ones((16, 16), np.float32)), image)


def test_a_box_loses_its_straight_border() -> None:
    box = np.zeros((256, 256), bool)
    box[80:180, 60:160] = True
    weight = soft(box, 8.0, rng(1))
    assert not (weight[edge(box, 8.0) == 0] > 0).any()
    upper = (weight > 0.5).argmax(axis=0)[70:150]
    assert upper.std() > 0.7  # the upper border wanders by more than a pixel


def test_the_mask_of_an_inpainted_finding_is_what_changed_most() -> None:
    before = np.full((64, 64), 90, np.uint8)
    after = before.copy()
    after[20:30, 20:30] = 150
    after[40:50, 40:50] = 95
    mask = outline(before, after, np.ones((64, 64), np.float32))
    assert mask[22:28, 22:28].all()
    assert not mask[40:50, 40:50].any()
    assert not outline(before, before, np.ones((64, 64), np.float32)).any()


@pytest.fixture(scope="module")
def latent(tiny: Path) -> Latent:
    sampler = Sampler(num_inference_steps=4, batch=2)
    return Latent(tiny, sampler, AttentionSpec(), torch.device("cpu"))


PHRASES = {"right_lung": "right lung", "left_lung": "left lung", "heart": "heart", "opacity": "opacity"}


def put(
    latent: Latent, findings: list[dict[str, Any]], strict: bool = False, **inpaint: Any
) -> tuple[np.ndarray, Draw, dict[str, np.ndarray]]:
    """The image before, the draw after, and the findings' masks."""
    image, labels = chests.chest(0)
    asked = [
        {"label": one["finding"], "method": "auto", "shape": "blob", "severity": 0.6, "seed": 5, **one}
        for one in findings
    ]
    spec = Spec(0, "a", "", "", PHRASES, {}, 3, "test", control={"findings": asked})
    made = Pathology(latent, Inpaint(**inpaint), ["opacity"], strict)
    draws, _, layers = made.put([spec], [Draw(image, np.zeros((0, 1, 1), np.float32))], [labels])
    return image, draws[0], layers[0]


def test_a_simulated_finding_is_denser_in_its_own_mask(latent: Latent) -> None:
    image, draw, layers = put(latent, [{"finding": "opacity", "region": "left lung"}])
    mask = layers["opacity"]
    assert mask.any()
    assert (draw.image.astype(float) - image)[mask].mean() > 5
    assert not (draw.image != image)[:, :24].any()


def test_at_strength_zero_the_simulated_finding_stays_as_it_is(latent: Latent) -> None:
    asked = {"finding": "opacity", "region": "left lung"}
    image, draw, layers = put(latent, [asked], strength=0.0)
    labels = chests.chest(0)[1]
    made = place("opacity", image.astype(np.float32) / 255, labels, labels == 2, 0.6, np.random.default_rng([5, 0]))
    np.testing.assert_array_equal(layers["opacity"], made.mask)
    assert np.abs(draw.image.astype(float) - made.image * 255).max() <= 2


def test_the_model_changes_a_simulated_finding_the_more_the_larger_its_strength(latent: Latent) -> None:
    asked = {"finding": "opacity", "region": "left lung"}
    plain = put(latent, [asked], strength=0.0)[1].image.astype(float)
    change = [np.abs(put(latent, [asked], strength=s)[1].image - plain).mean() for s in (0.3, 0.9)]
    assert 0 < change[0] < change[1]


def test_findings_that_exclude_each_other_are_refused_with_a_reason(latent: Latent) -> None:
    both = [{"finding": "effusion", "region": "left lung"}, {"finding": "pneumothorax", "region": "left lung"}]
    assert put(latent, both)[1].refused == "pneumothorax.carrier"
    with pytest.raises(CannotCarryError, match="exclude each other"):
        put(latent, both, strict=True)


def test_what_could_not_be_put_in_is_rejected_with_its_reason() -> None:
    empty = np.zeros((8, 8), np.uint8)
    sample = Sample(empty, empty, np.zeros((0, 8, 8)), np.zeros((0, 8, 8), bool), {}, refused="opacity.carrier")
    verdict = decide(sample, [], [])
    assert not verdict.keep
    assert verdict.reason == "control.opacity.carrier"


def test_what_is_taken_away_leaves_no_mask(latent: Latent) -> None:
    asked = {"finding": "no abnormality", "region": "left lung", "label": ""}
    image, draw, layers = put(latent, [asked])
    assert not draw.refused
    assert layers == {}
    assert (draw.image != image).any()
    assert not (draw.image != image)[:, :24].any()
