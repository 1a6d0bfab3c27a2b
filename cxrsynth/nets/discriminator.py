"""A patch discriminator: is each part of an image real or reconstructed (Isola et al., CVPR 2017)."""

from __future__ import annotations

from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Fully convolutional; each output number sees 34 x 34 pixels, about one rib's neighbourhood at 256 pixels.

    Args:
        width: channels of the first layer; doubled twice.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for factor in (1, 2):
            layers += [
                nn.Conv2d(width * factor, width * factor * 2, 4, 2 if factor == 1 else 1, 1),
                nn.GroupNorm(8, width * factor * 2),
                nn.LeakyReLU(0.2),
            ]
        layers.append(nn.Conv2d(width * 4, 1, 4, 1, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) in -1..1 -> (B, 1, h, w) higher where it looks real."""
        scores: Tensor = self.layers(x)
        return scores
