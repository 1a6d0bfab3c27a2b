"""Deformed label maps are new, smooth, whole, and have the heart that was asked for."""

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from cxrsynth.domain.anatomy import cardiothoracic
from cxrsynth.domain.atlas import open_atlas
from cxrsynth.errors import UsageError
from cxrsynth.generate.control.deform import GRID, deform, resized, warp
from tests import anatomies


def how(**changes: Any) -> dict[str, Any]:
    still = {"seed": 0, "warp": 0.0, "smooth": 0.12, "scale": [1.0, 1.0], "shift": [0.0, 0.0], "ctr": None}
    return {**still, **changes}


def atlas_map(number: int = 0) -> np.ndarray:
    atlas = open_atlas("wingspan")
    return atlas.load(atlas.keys[number])


def test_without_any_deformation_the_map_stays() -> None:
    np.testing.assert_array_equal(deform(atlas_map(), how()), atlas_map())


def test_the_warp_can_be_undone_everywhere() -> None:
    """A diffeomorphism has a positive Jacobian determinant."""
    rows, columns = np.mgrid[:GRID, :GRID] + warp(3, 0.08, 0.12) * GRID
    determinant = np.gradient(rows, axis=0) * np.gradient(columns, axis=1)
    determinant -= np.gradient(rows, axis=1) * np.gradient(columns, axis=0)
    assert determinant.min() > 0


def test_a_warp_changes_the_map_and_tears_nothing() -> None:
    mask = atlas_map()
    made = deform(mask, how(warp=0.02, seed=5))
    changed = (made != mask).mean()
    assert 0.005 < changed < 0.2
    for number in (1, 2, 3):
        _, pieces = ndimage.label(made == number)
        _, before = ndimage.label(mask == number)
        assert pieces <= before


def test_the_same_numbers_give_the_same_map_and_others_another() -> None:
    mask = atlas_map()
    one, same, other = (deform(mask, how(warp=0.02, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


@pytest.mark.parametrize("ratio", [0.42, 0.5, 0.56])
def test_the_heart_has_the_ratio_asked_for_and_the_chest_its_width(ratio: float) -> None:
    atlas = open_atlas("wingspan")
    for key in atlas.near(ratio, 1.25)[:3]:
        mask = atlas.load(key)
        made = deform(mask, how(ctr=ratio))
        assert cardiothoracic(made) == pytest.approx(ratio, abs=0.01)
        columns = [np.flatnonzero(((one == 1) | (one == 2)).any(axis=0)) for one in (mask, made)]
        assert abs(len(columns[0]) - len(columns[1])) <= 2


def test_scale_and_shift_move_the_anatomy() -> None:
    mask = atlas_map()
    smaller = deform(mask, how(scale=[0.9, 0.9]))
    assert (smaller > 0).sum() == pytest.approx(0.81 * (mask > 0).sum(), rel=0.03)
    lower = deform(mask, how(shift=[0.05, 0.0]))
    assert ndimage.center_of_mass(lower > 0)[0] - ndimage.center_of_mass(mask > 0)[0] == pytest.approx(12.8, abs=1)


def test_a_map_of_other_proportions_than_the_picture_is_refused() -> None:
    with pytest.raises(UsageError, match="other proportions") as caught:
        resized(anatomies.chest(size=64)[:48], 128, 128)
    assert "128 x 128" in caught.value.hint


def test_a_map_of_another_size_keeps_its_ids() -> None:
    assert set(np.unique(resized(anatomies.chest(size=96), 64, 64))) == {0, 1, 2, 3}


def test_an_anatomy_that_leaves_the_picture_is_an_error() -> None:
    with pytest.raises(UsageError, match="lost its"):
        deform(anatomies.chest(), how(shift=[0.0, 0.9]))
