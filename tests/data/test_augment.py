"""Augmentation: an image and its mask change together, as the random numbers say, and stay what they are."""

import numpy as np
import pytest
from pydantic import ValidationError

from cxrsynth.data.augment import augmenter
from cxrsynth.data.config import SegmentAugment
from cxrsynth.records import IGNORE
from tests.train.chests import chest

IMAGE, MASK = chest(0)
NNUNET = SegmentAugment(style="nnunet")


def draws(config: SegmentAugment, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    change = augmenter(config)
    return [change(IMAGE, MASK, np.random.default_rng(number)) for number in range(count)]


@pytest.fixture(scope="module")
def many() -> list[tuple[np.ndarray, np.ndarray]]:
    return draws(NNUNET, 200)


def test_images_stay_gray_and_masks_hold_classes_and_what_nobody_labelled(
    many: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    for image, mask in many:
        assert (image.shape, image.dtype) == (IMAGE.shape, np.uint8)
        assert (mask.shape, mask.dtype) == (MASK.shape, np.uint8)
        assert set(np.unique(mask)) <= {0, 1, 2, 3, IGNORE}


def test_the_same_numbers_make_the_same_image(many: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for (image, mask), (again, again_mask) in zip(draws(NNUNET, 20), many[:20], strict=True):
        assert np.array_equal(image, again)
        assert np.array_equal(mask, again_mask)


def test_a_third_is_turned_or_scaled_and_some_are_left_alone(many: list[tuple[np.ndarray, np.ndarray]]) -> None:
    moved = np.mean([not np.array_equal(mask, MASK) for _, mask in many])
    whole = np.mean([np.array_equal(image, IMAGE) for image, _ in many])
    assert moved == pytest.approx(0.36, abs=0.12)  # 1 - 0.8 * 0.8
    assert 0.05 < whole < 0.3


def test_right_stays_right(many: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for _, mask in many:
        right, left = (np.nonzero(mask == number)[1].mean() for number in (1, 2))
        assert right < left


def test_tone_alone_changes_no_label() -> None:
    change = augmenter(SegmentAugment(p=0, tone_p=1))
    image, mask = change(IMAGE, MASK, np.random.default_rng(0))
    assert np.array_equal(mask, MASK)
    assert not np.array_equal(image, IMAGE)


@pytest.mark.parametrize("style", ["plain", "nnunet"])
def test_an_elastic_deformation_moves_image_and_mask_together(style: str) -> None:
    ((image, mask),) = draws(SegmentAugment(style=style, elastic=1.0), 1)  # type: ignore[arg-type]
    assert not np.array_equal(mask, MASK)
    assert image[mask == 3].mean() > image[mask == 1].mean() + 50  # the heart is still the bright part


def test_nnunets_numbers_are_its_own() -> None:
    with pytest.raises(ValidationError, match="leave out rotate"):
        SegmentAugment(style="nnunet", rotate=30.0)
    assert SegmentAugment.model_validate(NNUNET.model_dump()) == NNUNET
