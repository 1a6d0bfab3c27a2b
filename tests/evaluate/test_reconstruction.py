"""What an autoencoder loses, in decibels and in the distance of its reconstructions to other real images."""

from pathlib import Path

import numpy as np

from cxrsynth.evaluate.features import FeatureNet
from cxrsynth.evaluate.reconstruction import reconstruction
from tests.train import chests


def coarse(images: np.ndarray) -> np.ndarray:
    """(N, H, W) -> (N, 4): means of the quarters of an image."""
    n, height, width = images.shape
    return images.reshape(n, 2, height // 2, 2, width // 2).mean(axis=(2, 4)).reshape(n, 4).astype(np.float32)


def test_reconstructions_stand_next_to_the_images_themselves(tiny: Path, tmp_path: Path) -> None:
    data = chests.make(tmp_path / "data", splits="s" * 32)
    net = FeatureNet("coarse", "quarters", coarse)
    found = reconstruction(tiny, data, "test", nets=[net])
    assert {"psnr", "ssim", "gradient_energy"} <= {one["metric"] for one in found}
    fids = {one["arm"]: one["value"] for one in found if one["metric"] == "fid"}
    assert set(fids) == {"tiny", "real"}
    assert fids["tiny"] > fids["real"]  # an untrained autoencoder gives other images back


def test_too_few_images_for_a_distance_leave_it_out(tiny: Path, tmp_path: Path) -> None:
    data = chests.make(tmp_path / "data", splits="s" * 8)
    found = reconstruction(tiny, data, "test", nets=[FeatureNet("coarse", "quarters", coarse)])
    assert "fid" not in {one["metric"] for one in found}
