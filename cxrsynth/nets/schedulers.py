"""Any diffusers scheduler, by a short name or by its class name."""

from __future__ import annotations

from typing import Any

import diffusers
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from cxrsynth.errors import RecipeError

SHORT: dict[str, tuple[str, dict[str, Any]]] = {
    "dpmsolver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


# What a model trained with flow matching can be sampled with; the others know no such schedule.
FLOW: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "dpmsolver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
FLOW_CLASSES = {class_name for class_name, _ in FLOW.values()} | {"FlowMatchHeunDiscreteScheduler"}


def is_flow(config: dict[str, Any]) -> bool:
    """Whether a model was trained with flow matching (Lipman et al., ICLR 2023)."""
    return (
        str(config.get("_class_name", "")).startswith("FlowMatch")
        or bool(config.get("use_flow_sigmas"))
        or config.get("prediction_type") == "flow_prediction"
    )


def build(name: str | None, config: dict[str, Any]) -> Any:
    """A scheduler that continues the noise schedule and the prediction type the model was trained with.

    Args:
        name: short name or diffusers class name; None for the model's own.
        config: the model's ``scheduler_config.json``.

    Raises:
        RecipeError: no such scheduler, or none for this kind of model; the message lists those there are.
    """
    own = str(config.get("_class_name", "DDIMScheduler"))
    flow = is_flow(config)
    class_name, extra = (FLOW if flow else SHORT).get(name or own, (name or own, {}))
    if name is not None and flow and class_name not in FLOW_CLASSES:
        raise RecipeError(
            f"the model was trained with flow matching, '{name}' cannot sample it",
            f"leave sampler.scheduler away, or one of: {', '.join(FLOW)}",
        )
    if class_name.startswith("FlowMatch") and not flow:
        raise RecipeError(
            f"'{name}' samples models trained with flow matching, this one was not",
            f"leave sampler.scheduler away, or one of: {', '.join(SHORT)}",
        )
    found = getattr(diffusers, class_name, None)
    if not (isinstance(found, type) and issubclass(found, SchedulerMixin)):
        raise RecipeError(
            f"unknown scheduler '{name or own}'",
            f"known: {', '.join(SHORT)}, or a diffusers class name such as HeunDiscreteScheduler",
        )
    if flow and class_name != own and not class_name.startswith("FlowMatch"):
        shift = config.get("shift", config.get("flow_shift", 1.0))
        extra = {**extra, "use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": shift}
    if flow and class_name != own and class_name.startswith("FlowMatch"):
        extra = {**extra, "shift": config.get("flow_shift", config.get("shift", 1.0))}
    try:
        return found.from_config({**config, **extra})  # type: ignore[attr-defined]
    except (TypeError, ValueError, LookupError, AttributeError, NotImplementedError, AssertionError) as error:
        raise RecipeError(
            f"{class_name} cannot continue the model's schedule: {error}",
            f"look at its scheduler_config.json, or one of: {', '.join(FLOW if flow else SHORT)}",
        ) from error


def scaled(scheduler: Any, x: Tensor, t: Any) -> Tensor:
    """The latents as the denoiser is given them at a timestep; flow-matching schedules change nothing."""
    found: Tensor = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
    return found


def add_noise(config: dict[str, Any], clean: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
    """Latents as the model saw them in training.

    Args:
        config: the model's ``scheduler_config.json``.
        clean, noise: (B, C, h, w) float32.
        steps: (B,) int64 timesteps, 0 for hardly any noise.

    Returns:
        (B, C, h, w) float32.
    """
    if is_flow(config):
        part = (steps.float() / trained_steps(config)).view(-1, 1, 1, 1)
        return (1 - part) * clean + part * noise
    found: Tensor = build("ddim", config).add_noise(clean, noise, steps)
    return found


def trained_steps(config: dict[str, Any]) -> int:
    """Timesteps of the training."""
    return int(config.get("num_train_timesteps", 1000))
