"""Any diffusers scheduler, by a short name or by its class name."""

from __future__ import annotations

from typing import Any

import diffusers
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from cxrsynth.errors import RecipeError

SHORT: dict[str, tuple[str, dict[str, Any]]] = {
    "dpmsolver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


def build(name: str, config: dict[str, Any]) -> Any:
    """A scheduler that continues the noise schedule and the prediction type the model was trained with.

    Args:
        name: short name or diffusers class name.
        config: the model's ``scheduler_config.json``.

    Raises:
        RecipeError: no such scheduler; the message lists the short names.
    """
    class_name, extra = SHORT.get(name, (name, {}))
    found = getattr(diffusers, class_name, None)
    if not (isinstance(found, type) and issubclass(found, SchedulerMixin)):
        raise RecipeError(
            f"unknown scheduler '{name}'",
            f"known: {', '.join(SHORT)}, or a diffusers class name such as HeunDiscreteScheduler",
        )
    return found.from_config(  # type: ignore[attr-defined]
        {**config, **extra}
    )
