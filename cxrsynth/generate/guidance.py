"""Classifier-free guidance (Ho and Salimans, 2022)."""

from __future__ import annotations

from torch import Tensor


def guide(both: Tensor, scale: float, rescale: float) -> Tensor:
    """Classifier-free guidance on ``[unconditional, conditional]`` predictions: (2B, C, h, w) -> (B, C, h, w).

    ``rescale`` brings the standard deviation back towards the conditional one (Lin et al., WACV 2024, section 3.4).
    """
    unconditional, conditional = both.chunk(2)
    guided = unconditional + scale * (conditional - unconditional)
    if rescale:
        axes = tuple(range(1, guided.ndim))
        matched = guided * conditional.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True).clamp_min(1e-8)
        guided = rescale * matched + (1 - rescale) * guided
    return guided
