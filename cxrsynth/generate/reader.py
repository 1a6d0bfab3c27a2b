"""Class maps of images that nobody drew: encode, add noise, denoise once, and read where the class phrases look.

As in VPD (Zhao et al., "Unleashing Text-to-Image Diffusion Models for Visual Perception", ICCV 2023) one pass of the
UNet is enough; here the image's latents are noised to a few timesteps, and the maps averaged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cxrsynth.errors import UsageError
from cxrsynth.generate.answers import look
from cxrsynth.generate.sampler import Latent
from cxrsynth.nets import schedulers
from cxrsynth.nets.taps import KeySource, Taps, class_text, column_weights, merge_levels, observe, token_columns
from cxrsynth.nets.text import check_tokens


class Reader:
    """Reads the maps of real images with a loaded model.

    Args:
        latent: the model, loaded with an attention block.
        phrases: the words whose attention locates each class, K of them.
        prompt: what the images are said to show; nothing by default, so that no caption helps.

    Raises:
        RecipeError: phrases or prompt are over the token limit.
        UsageError: the model was loaded without attention.
    """

    def __init__(self, latent: Latent, phrases: Sequence[str], prompt: str = "") -> None:
        if latent.attention is None:
            raise UsageError("the labels of real images come from attention", "set masks.use: attention")
        self.latent, self.attention = latent, latent.attention
        text = class_text(phrases)
        check_tokens(latent.tokenizer, [text], what="the list of class phrases")
        check_tokens(latent.tokenizer, [prompt])
        with torch.inference_mode():
            context, self.words = latent.encode([text]), latent.encode([prompt])
        weights = column_weights(token_columns(latent.tokenizer, text, phrases), context.shape[1])
        self.source = KeySource(context, weights.to(latent.device))
        self.scheduler = schedulers.build("ddim", latent.scheduler_config)
        height, width = latent.latent_size
        self.size = (height * latent.factor, width * latent.factor)

    @torch.inference_mode()
    def read(
        self, images: np.ndarray, seeds: Sequence[int], timesteps: Sequence[int], noises: int
    ) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
        """The maps of one batch, averaged over noises and timesteps, and what the chain asked besides.

        Args:
            images: (B, H, W) uint8 of `size`.
            seeds: one per image; its noise depends on nothing else.
            timesteps: how much noise is added, 0 none to the last step of training pure noise.
            noises: how many noises each timestep is read with.

        Returns:
            (B, K, h, w) float32 on the finest grid that is read, and the reads of each image as `Draw` holds them.

        Raises:
            UsageError: a timestep the model was not trained with.
        """
        latent = self.latent
        clean = torch.cat([self.encode(image) for image in images])  # (B, C, h, w)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        taps = Taps([self.source], latent.latent_size, slice(None), self.attention.levels)
        with observe(latent.unet, taps), latent.asker.observe(latent.unet, images) as answers:
            look(latent.unet, self.scheduler, clean, self.words, generators, timesteps, noises)
        maps: np.ndarray = merge_levels(taps.maps(), self.attention.normalise_levels).cpu().numpy()
        return maps, answers()

    def encode(self, image: np.ndarray) -> Tensor:
        """(H, W) uint8 -> (1, C, h, w) float32 latents as the UNet was trained on: the mean, scaled."""
        vae = self.latent.vae
        x = torch.from_numpy(image.astype(np.float32) / 127.5 - 1).to(self.latent.device)
        x = x.expand(1, vae.config.in_channels, *image.shape)  # a model for colour gets three equal channels
        mean = vae.encode(x).latent_dist.mean
        found: Tensor = (mean - (getattr(vae.config, "shift_factor", None) or 0.0)) * vae.config.scaling_factor
        return found
