"""Tiny Stable-Diffusion folders, built from configs with fixed random weights: real code, milliseconds a step."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from cxrsynth.nets.config import TextConfig
from cxrsynth.nets.text import build_encoder, build_tokenizer

WORDS = [
    "frontal chest x-ray, PA view, adult, right lung, left lung, heart",
    "normal heart size, no pleural effusion, no opacity in the right lower zone",
] * 5


def build(folder: Path, *, gray: bool = True, prediction: str = "epsilon", seed: int = 0) -> Path:
    """A pipeline for 64 x 64 pictures (latents 16 x 16, attention at levels 1 and 2), saved as a diffusers folder.

    Args:
        gray: one-channel autoencoder like the bundled model's; otherwise three channels as in Stable Diffusion.
        prediction: ``epsilon`` or ``v_prediction``.
    """
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(WORDS, TextConfig(vocabulary=560, width=32, layers=1, heads=2))
    text_encoder = build_encoder(tokenizer, TextConfig(vocabulary=560, width=32, layers=1, heads=2))
    channels = 1 if gray else 3
    vae = AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        latent_channels=4,
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        sample_size=64,
    )
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", prediction_type=prediction, clip_sample=False, steps_offset=1
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder
