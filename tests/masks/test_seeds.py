"""What attention is sure of."""

import numpy as np

from cxrsynth.masks.attention import Joint
from cxrsynth.masks.crf import Crf
from cxrsynth.masks.seeds import confident, constants, strength
from tests.masks.test_labels import draw


def test_confident_pixels_are_right_and_cover_most_of_the_picture() -> None:
    drawn = draw("normal chest")
    assert drawn.control is not None
    lungs_first = drawn.control & ~np.stack([drawn.control[2], drawn.control[2], np.zeros_like(drawn.control[2])])
    truth = sum((k + 1) * mask.astype(np.uint8) for k, mask in enumerate(lungs_first))
    seeds = confident(drawn.image, drawn.maps, Joint(), Crf(certainty=0.7))
    sure = seeds != 255
    assert 0.5 < sure.mean() < 1
    assert (seeds[sure] == truth[sure]).mean() > 0.98
    assert {0, 1, 2, 3} <= set(np.unique(seeds).tolist())


def test_the_low_constant_lies_below_the_high_one() -> None:
    rng = np.random.default_rng(0)
    for claim in (rng.random((32, 32)), np.zeros((8, 8)), np.ones((8, 8)), (rng.random((32, 32)) > 0.5) * 1.0):
        low, high = constants(claim.astype(np.float32))
        assert 0 < low <= high < 1


def test_a_picture_with_little_foreground_gets_a_lower_threshold() -> None:
    claim = np.full((100, 100), 0.1, np.float32)
    claim[:20, :20] = 0.4  # 4 % of the picture, under every bin
    _, high = constants(claim)
    assert high < 0.45


def test_nothing_claims_a_pixel_of_an_empty_map() -> None:
    assert not strength(np.zeros((3, 8, 8), np.float32), 16, 16, Joint()).any()
