"""Class maps of images that nobody drew: encode, add noise, denoise once, and read where the class phrases look.

As in VPD (Zhao et al., "Unleashing Text-to-Image Diffusion Models for Visual Perception", ICCV 2023) one pass of the
UNet is enough; here the image's latents are noised to a few timesteps, and the maps averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from cxrsynth.errors import UsageError
from cxrsynth.generate.answers import look
from cxrsynth.generate.sampler import Latent
from cxrsynth.generate.texts import class_sources
from cxrsynth.nets.autoencoder import to_latents
from cxrsynth.nets.taps import Taps, merge_levels


class Reader:
    """Reads the maps of real images with a loaded model.

    Args:
        latent: the model, loaded with an attention block.
        phrases: class -> the words whose attention locates it, K of them.
        prompt: what the images are said to show; nothing by default, so that no caption helps.

    Raises:
        RecipeError: phrases or prompt are over the token limit.
        UsageError: the model was loaded without attention.
    """

    def __init__(self, latent: Latent, phrases: Mapping[str, str], prompt: str = "") -> None:
        if latent.attention is None:
            raise UsageError("the labels of real images come from attention", "set masks.use: attention")
        self.latent, self.attention = latent, latent.attention
        model = latent.model
        if not model.any_text:
            raise UsageError(
                f"{model.family} attends to the words of its prompt only, which real images do not have",
                "label them with another model, such as --model mini",
            )
        model.check_tokens([prompt])
        with torch.inference_mode():
            self.words = model.encode([prompt])
            self.sources = class_sources(model, phrases, latent.overlapping, latent.device)
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
        clean, generators = self._begin(images, seeds)
        taps = Taps(self.sources, latent.latent_size, slice(None), self.attention.levels)
        with latent.model.observe(taps), latent.asker.observe(latent.model.denoiser, images) as answers:
            look(latent.model, clean, self.words, generators, timesteps, noises)
        maps: np.ndarray = merge_levels(taps.maps(), self.attention.normalise_levels).cpu().numpy()
        return maps, answers()

    @torch.inference_mode()
    def levels(self, images: np.ndarray, seeds: Sequence[int], timesteps: Sequence[int]) -> dict[int, Tensor]:
        """The maps of one batch at every level the model has, one noise: level -> (B, K, h, w) float32 on the CPU."""
        clean, generators = self._begin(images, seeds)
        taps = Taps(self.sources, self.latent.latent_size, slice(None))
        with self.latent.model.observe(taps):
            look(self.latent.model, clean, self.words, generators, timesteps)
        return {level: maps.cpu() for level, maps in taps.maps().items()}

    def _begin(self, images: np.ndarray, seeds: Sequence[int]) -> tuple[Tensor, list[torch.Generator]]:
        """(B, C, h, w) latents of images, and the noise of each."""
        return self.encode(images), [torch.Generator().manual_seed(seed) for seed in seeds]

    def encode(self, images: np.ndarray) -> Tensor:
        """(B, H, W) uint8 -> (B, C, h, w) float32 latents."""
        x = torch.from_numpy(images.astype(np.float32) / 127.5 - 1)[:, None]
        return to_latents(self.latent.model.vae, x.to(self.latent.device))
