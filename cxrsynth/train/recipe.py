"""The recipe of a whole model: its autoencoder, then its denoiser."""

from __future__ import annotations

from cxrsynth.train.tasks.diffusion.config import DiffusionRecipe
from cxrsynth.train.tasks.vae.config import VaeConfig


class ModelRecipe(DiffusionRecipe):
    """What `train-vae` and `train-diffusion` read, each its own part."""

    vae: VaeConfig = VaeConfig()

    def trained_by(self) -> str:
        """Digest of the settings that a running training of the denoiser cannot change."""
        return DiffusionRecipe.model_validate(self.model_dump(exclude={"vae"})).trained_by()
