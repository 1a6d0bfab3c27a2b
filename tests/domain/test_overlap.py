"""One Dice for all: of stacks and of single masks, and without a say where both are empty."""

import numpy as np

from cxrsynth.domain.overlap import dice


def test_dice_of_a_stack_is_the_dice_of_each_pair() -> None:
    first, second = np.zeros((3, 4, 4), bool), np.zeros((3, 4, 4), bool)
    first[0, :2], second[0, 1:3] = True, True
    first[1] = True
    assert dice(first, second)[:2].tolist() == [0.5, 0.0]
    assert [float(dice(one, other)) for one, other in zip(first[:2], second[:2], strict=True)] == [0.5, 0.0]


def test_two_empty_masks_say_nothing() -> None:
    assert np.isnan(dice(np.zeros((4, 4), bool), np.zeros((4, 4), bool)))
