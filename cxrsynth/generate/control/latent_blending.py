"""Latent blending in the predicted clean latents, for every scheduler of the factory.

XReal (arXiv 2403.09240) blends two noisy latents, z_t <- M q(z0, t) + (1 - M) z_t, whose noises are independent: with a
weight of 0.2 the variance of the noise falls to 0.68, and the denoiser sees a time step that it is not at. Here the
*predicted clean* latents are blended, x0 <- x0 + M (z0 - x0), and the noise stays the sample's own. It is a change of
the network's prediction, so schedulers that remember earlier predictions remember the blended ones.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from cxrsynth.errors import RecipeError
from cxrsynth.nets.schedulers import trained_steps

# With a zero terminal SNR nothing of the image is left at the first step; diffusers' own floor keeps numbers finite.
SMALLEST = 2.0**-24


class LatentBlending:
    """Blends predicted clean latents with given ones while the image is generated.

    Args:
        target: (B, C, h, w) float32 clean latents.
        weight: (B, 1, h, w) float32, 0 leaves the prediction, 1 replaces it.
        until: part of the steps in which it blends, from the first.
        fade: how the weight falls to nothing there, as (1 - done / until) ** fade; 0 keeps it, as XReal does.
        guidance_scale: of classifier-free guidance during these steps and the rest.
        release: part of the steps in which everything is held, whatever the weight, one for all or (B, 1, 1, 1); what
            is free afterwards is changed only as far as the rest of the noise reaches (SDEdit, Meng et al., ICLR 2022).
    """

    def __init__(
        self,
        target: Tensor,
        weight: Tensor,
        until: float,
        guidance_scale: float,
        fade: float = 0.0,
        release: Tensor | float = 0.0,
    ) -> None:
        self.target, self.weight, self.until, self.guidance_scale = target, weight, until, guidance_scale
        self.fade, self.release = fade, release

    def __call__(self, predicted: Tensor, x: Tensor, t: Any, done: float, scheduler: Any) -> Tensor:
        """The prediction whose clean latents are blended.

        Args:
            predicted: (B, C, h, w) float32, noise, velocity or clean latents, as the scheduler's config says.
            x: (B, C, h, w) float32, what the network saw: the clean latents times alpha, noise times sigma.
            t: timestep, whole or fractional.
            done: part of the steps already made.

        Raises:
            RecipeError: the scheduler has no noise schedule of this kind.
        """
        if done >= self.until:
            return predicted
        weight = self.weight * (1 - done / self.until) ** self.fade
        held = torch.as_tensor(self.release, device=weight.device) > done
        weight = torch.where(held, torch.ones_like(weight), weight)
        if flows(scheduler):  # x is a straight line from the clean latents to the noise, its velocity is predicted
            sigma = max(float(t) / trained_steps(scheduler.config), SMALLEST)
            return predicted - weight * (self.target - (x - sigma * predicted)) / sigma
        alpha, sigma = level(scheduler, t)
        kind = scheduler.config.prediction_type
        if kind == "sample":
            return predicted + weight * (self.target - predicted)
        if kind == "epsilon":
            return predicted - weight * (alpha * self.target - (x - sigma * predicted)) / sigma
        if kind == "v_prediction":
            return predicted - weight * (self.target - (alpha * x - sigma * predicted)) / sigma
        raise RecipeError(f"a model that predicts '{kind}' cannot be controlled", "epsilon, v_prediction or sample can")


def flows(scheduler: Any) -> bool:
    """Whether a scheduler samples a model trained with flow matching."""
    return type(scheduler).__name__.startswith("FlowMatch") or bool(scheduler.config.get("use_flow_sigmas"))


def level(scheduler: Any, t: Any) -> tuple[float, float]:
    """How much image and how much noise there is at a timestep: alpha and sigma, alpha**2 + sigma**2 = 1.

    Raises:
        RecipeError: the scheduler has no ``alphas_cumprod``.
    """
    known = getattr(scheduler, "alphas_cumprod", None)
    if known is None:
        raise RecipeError(
            f"{type(scheduler).__name__} cannot be controlled: it has no noise schedule", "try dpmsolver++ or ddim"
        )
    place = min(max(float(t), 0.0), len(known) - 1.0)
    below = int(place)
    above = min(below + 1, len(known) - 1)

    def log_ratio(index: int) -> float:
        kept = min(max(float(known[index]), SMALLEST), 1 - 1e-9)
        return 0.5 * math.log((1 - kept) / kept)

    ratio = math.exp(log_ratio(below) + (place - below) * (log_ratio(above) - log_ratio(below)))
    alpha = 1 / math.sqrt(1 + ratio * ratio)
    return alpha, ratio * alpha
