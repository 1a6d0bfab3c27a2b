"""How the autoencoder is built and trained; every default is here."""

from __future__ import annotations

from pydantic import Field

from cxrsynth.train.loop_config import LoopConfig


class VaeConfig(LoopConfig):
    """Autoencoder with f8 and one gray channel."""

    block_out_channels: tuple[int, ...] = (32, 64, 128, 128)
    layers_per_block: int = Field(1, ge=1)
    norm_groups: int = Field(8, ge=1)
    latent_channels: int = Field(8, ge=1)
    crop: int = Field(128, ge=16, multiple_of=16)
    whole_every: int = Field(4, ge=0, description="every so many updates a batch holds whole images; 0 never")
    updates: int = Field(12000, ge=1)
    batch: int = Field(8, ge=1, description="crops; of whole images as many as have about the same area")
    lr: float = Field(5e-4, gt=0)
    final_lr: float = Field(0.02, ge=0, le=1)
    weight_decay: float = Field(0.0, ge=0)
    beta2: float = Field(0.99, gt=0, lt=1, description="of AdamW")
    ema: float = Field(0.998, ge=0, lt=1)
    look_every: int = Field(500, ge=1)
    kl_weight: float = Field(1e-5, ge=0)
    gradient_weight: float = Field(1.0, ge=0, description="weight of the multi-scale gradient difference")
    perceptual_weight: float = Field(0.1, ge=0)
    half_weight: float = Field(0.25, ge=0, description="weight of decoding latents at half their size")
    decoder_from: float = Field(0.7, gt=0, description="share of the updates after which only the decoder learns")
    adversary_weight: float = Field(0.1, ge=0, description="of the patch discriminator, relative to the other losses")
    adversary_lr: float = Field(0.4, gt=0, description="share of the learning rate")

    @property
    def second_phase(self) -> int:
        """First update of the second phase."""
        return round(self.decoder_from * self.updates)
