"""A box as a mask: its middle is the finding, the rest of it unknown, everything beyond it without."""

import numpy as np

from cxrsynth.data.boxes import Box
from cxrsynth.data.weak_masks import weak_mask
from cxrsynth.records import IGNORE

BOX = Box("rsna", "opacity", 0.25, 0.25, 0.75, 0.75)
SMALL = Box("rsna", "opacity", 0.8, 0.8, 0.9, 0.9)


def test_the_middle_is_the_finding_the_rest_of_the_box_unknown_the_outside_without() -> None:
    mask = weak_mask([BOX], (64, 64), 3)
    assert mask[32, 32] == 3
    assert mask[17, 17] == IGNORE
    assert mask[5, 5] == 0
    assert set(np.unique(mask)) == {0, 3, IGNORE}


def test_of_a_box_a_fifth_is_taken_for_the_finding() -> None:
    mask = weak_mask([BOX], (256, 256), 1)
    assert 0.18 < (mask == 1).sum() / (mask != 0).sum() < 0.22


def test_every_box_has_a_middle_of_its_own() -> None:
    mask = weak_mask([BOX, SMALL], (100, 100), 1)
    assert mask[50, 50] == mask[85, 85] == 1


def test_an_image_without_boxes_is_without_the_finding() -> None:
    assert not weak_mask([], (8, 8), 1).any()
