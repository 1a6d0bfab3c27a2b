"""The noise a denoiser learns from: the schedule of a base, what is predicted, and how much each step counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor

from cxrsynth.errors import RecipeError
from cxrsynth.nets.bundle import Scheduler
from cxrsynth.nets.config import NoiseConfig


def schedule_of(base: Mapping[str, Any], config: NoiseConfig) -> Scheduler:
    """The schedule to train with, which also goes into the result.

    Args:
        base: ``scheduler_config.json`` of the base, of any scheduler class.

    Raises:
        RecipeError: zero terminal SNR with a model that predicts noise: its last step would have nothing to learn.
    """
    prediction = base.get("prediction_type", "epsilon") if config.prediction == "base" else config.prediction
    zero = bool(base.get("rescale_betas_zero_snr", False)) if config.zero_snr is None else config.zero_snr
    if prediction not in ("epsilon", "v_prediction"):
        raise RecipeError(
            f"the base predicts '{prediction}', which cannot be trained here",
            "type --set noise.prediction=v_prediction to train it towards velocities",
        )
    if zero and prediction == "epsilon":
        raise RecipeError(
            "zero terminal SNR cannot be learned by a model that predicts noise",
            "type --set noise.prediction=v_prediction as well, or --set noise.offset=0.1 instead of noise.zero_snr",
        )
    body = {name: value for name, value in base.items() if not name.startswith("_")}
    body |= {"prediction_type": prediction, "rescale_betas_zero_snr": zero, "clip_sample": False}
    if zero:
        body["timestep_spacing"] = "trailing"  # drawing has to begin at the step that has no signal
    return DDIMScheduler.from_config(body)


def target(schedule: Scheduler, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """(B, C, h, w) what the denoiser shall say: the noise, or the velocity (Salimans and Ho, ICLR 2022)."""
    if schedule.config.prediction_type == "epsilon":
        return noise
    velocity: Tensor = schedule.get_velocity(latents, noise, timesteps)
    return velocity


def weigh(schedule: Scheduler, timesteps: Tensor, gamma: float | None) -> Tensor:
    """(B,) -> (B,) float32 loss weights: min-SNR (Hang et al., ICCV 2023, section 3.4); all 1 without ``gamma``.

    For noise min(SNR, gamma) / SNR. For velocities min(SNR + 1, gamma) / (SNR + 1): as in the paper where SNR is high;
    never 0 where it is, at the last step of a schedule with zero terminal SNR, which decides tone and layout of an
    image.
    """
    if gamma is None:
        return torch.ones(len(timesteps), device=timesteps.device)
    snr = compute_snr(schedule, timesteps)
    snr = snr if schedule.config.prediction_type == "epsilon" else snr + 1
    return torch.minimum(snr, torch.full_like(snr, gamma)) / snr


def draw_timesteps(rng: np.random.Generator, batch: int, steps: int) -> Tensor:
    """(B,) int64, one from each of B equal parts of the range: the loss of a small batch varies less."""
    spread = (rng.permutation(batch) + rng.random(batch)) / batch
    return torch.from_numpy((spread * steps).astype(np.int64).clip(0, steps - 1))


def draw_noise(rng: np.random.Generator, shape: tuple[int, ...], offset: float) -> Tensor:
    """(B, C, h, w) float32 normal noise, with an offset of deviation ``offset`` that a channel shares.

    The offset lets a model learn images that are darker or brighter than the mean (Guttenberg, "Diffusion with offset
    noise", 2023); a schedule with zero terminal SNR does it better and needs none.
    """
    noise = rng.standard_normal(shape, np.float32)
    if offset:
        noise += np.float32(offset) * rng.standard_normal((*shape[:2], 1, 1), np.float32)
    return torch.from_numpy(noise)
