"""Each check rejects what it is there for, and says why."""

from dataclasses import replace

import numpy as np
import pytest

from cxrsynth.curate import Area, Border, Duplicate, Finite, Laterality, Present, Stability
from cxrsynth.records import Sample
from tests.curate.chest import SIZE, chest, sample, without


def box(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[rows, columns] = True
    return mask


def test_a_picture_with_numbers_that_are_none_is_rejected() -> None:
    assert Finite()(chest(finite=False), []).reason == "finite.nan"


def test_a_constant_picture_is_rejected() -> None:
    assert Finite()(chest(constant=True), []).reason == "finite.constant"


def test_a_picture_without_contrast_is_rejected() -> None:
    faint = replace(chest(), image=(100 + chest().image // 16).astype(np.uint8))
    assert Finite()(faint, []).reason == "finite.contrast"


def test_a_missing_class_is_named() -> None:
    assert Present()(without(chest(), "heart"), []).reason == "present.heart"


def test_a_class_that_is_not_required_may_be_missing() -> None:
    assert Present()(replace(without(chest(), "heart"), required=("right_lung",)), []).keep


def test_a_class_that_is_too_small_or_too_large_is_named() -> None:
    layers = chest().layers.copy()
    layers[2] = box(slice(30, 33), slice(30, 33))
    assert Area()(sample(layers), []).reason == "area.heart.small"
    layers[2] = box(slice(10, 60), slice(10, 60))
    assert Area()(sample(layers), []).reason == "area.heart.large"


def test_the_area_of_an_absent_class_is_not_judged() -> None:
    assert Area()(without(chest(), "heart"), []).keep


def test_the_recipe_may_set_a_range() -> None:
    assert Area(ranges={"heart": (0.2, 0.5)})(chest(), []).reason == "area.heart.small"


def test_a_range_the_wrong_way_round_is_refused() -> None:
    with pytest.raises(ValueError, match="heart"):
        Area(ranges={"heart": (0.5, 0.2)})


def test_a_mask_that_hangs_on_the_threshold_is_rejected() -> None:
    rows = np.linspace(0, 1, SIZE, dtype=np.float32)
    shallow = replace(chest(), prob=np.stack([np.tile(rows[:, None], SIZE)] * 3))
    verdict = Stability(least=0.8)(shallow, [])
    assert verdict.reason == "stability.right_lung"
    assert verdict.scores["stability.right_lung"] == pytest.approx(0.3 / 0.7, abs=0.05)


def test_the_stability_that_the_labelling_measured_counts() -> None:
    measured = replace(chest(), scores={"stability.heart": 0.1})
    assert Stability()(measured, []).reason == "stability.heart"


def test_swapped_lungs_are_rejected() -> None:
    verdict = Laterality()(chest(swapped=True), [])
    assert verdict.reason == "laterality.lungs"
    assert verdict.scores["laterality.lungs"] < 0


def test_a_heart_beside_the_lungs_is_rejected() -> None:
    layers = chest().layers.copy()
    layers[2] = box(slice(30, 48), slice(56, 64))
    assert Laterality()(sample(layers), []).reason == "laterality.heart"


def test_one_lung_alone_is_on_no_wrong_side() -> None:
    assert Laterality()(without(chest(swapped=True), "left_lung"), []).keep


def touching(sides: int) -> Sample:
    layers = chest().layers.copy()
    for number, edge in enumerate([(0, slice(10, 26)), (-1, slice(10, 26)), (slice(10, 26), 0), (slice(10, 26), -1)]):
        layers[(0, *edge)] |= number < sides
    return sample(layers)


def test_lungs_that_touch_three_sides_are_rejected() -> None:
    assert Border()(touching(2), []).keep
    assert Border()(touching(3), []).reason == "border.sides"


def test_a_corner_of_a_lung_on_the_edge_does_not_count() -> None:
    layers = chest().layers.copy()
    layers[0, 0, 10:12] = True
    assert Border(sides=0)(sample(layers), []).keep


def test_a_picture_seen_before_is_rejected() -> None:
    noisy = np.random.default_rng(9).normal(chest().image, 2).clip(0, 255).astype(np.uint8)
    assert Duplicate()(replace(chest(), image=noisy), [chest(seed=3), chest()]).reason == "duplicate.shard"


def test_a_brighter_copy_is_still_a_copy() -> None:
    brighter = (chest().image * 0.7 + 60).astype(np.uint8)
    assert not Duplicate()(replace(chest(), image=brighter), [chest()]).keep


def test_the_first_picture_is_no_duplicate() -> None:
    assert Duplicate()(chest(), []).keep


def test_constant_pictures_do_not_break_the_comparison() -> None:
    assert Duplicate()(chest(constant=True), [chest(constant=True)]).keep
