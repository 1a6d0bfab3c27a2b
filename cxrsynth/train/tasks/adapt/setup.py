"""What trains in an adaptation: the networks with the right parts unfrozen, and the optimizer's class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cxrsynth.errors import MissingError
from cxrsynth.nets.denoiser import Denoiser
from cxrsynth.nets.lora import inject
from cxrsynth.nets.taps import class_text, column_weights, token_columns
from cxrsynth.nets.text import ids
from cxrsynth.train.adapt_config import AdaptConfig, AdaptRecipe
from cxrsynth.train.base import Base
from cxrsynth.train.grounding import plateau


@dataclass(slots=True)
class Setup:
    """Everything that trains or is needed to.

    Attributes:
        lora: part -> its LoRA, empty where both parts train whole or not at all.
        words: key of an image -> what the model reads to it.
        height: the plateau a class map can reach (`plateau`).
    """

    recipe: AdaptRecipe
    base: Base
    denoiser: Denoiser
    lora: dict[str, Any]
    words: Mapping[str, str]
    height: float

    def trained(self) -> list[nn.Parameter]:
        """What the optimizer changes."""
        return [parameter for parameter in self.denoiser.parameters() if parameter.requires_grad]

    def ready(self) -> None:
        """Training mode, but for a part that is frozen: its drop-out, where it has one, stays off."""
        self.denoiser.train()
        if self.recipe.what.text_encoder == "frozen":
            self.denoiser.text_encoder.eval()
        if self.recipe.what.unet == "frozen":
            self.denoiser.unet.eval()


class Trained:
    """What trains of a network, as a part of a checkpoint; the frozen rest is the base's."""

    def __init__(self, network: nn.Module) -> None:
        self.parameters = {name: value for name, value in network.named_parameters() if value.requires_grad}

    def state_dict(self) -> dict[str, Tensor]:
        """Name -> weights."""
        return {name: value.detach() for name, value in self.parameters.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The reverse, in place."""
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(state[name])


def build(base: Base, recipe: AdaptRecipe, words: Mapping[str, str]) -> Setup:
    """The networks with what trains unfrozen; every process builds the same."""
    torch.manual_seed(recipe.adapt.seed)
    what = recipe.what
    lora: dict[str, Any] = {}
    for name, model, how, targets in (
        ("unet", base.unet, what.unet, what.targets),
        ("text_encoder", base.text_encoder, what.text_encoder, what.text_targets),
    ):
        model.requires_grad_(how == "full")
        if how == "lora":
            lora[name] = inject(model, targets, what)
    for name, parameter in base.text_encoder.named_parameters():
        if "pooler" in name:  # nothing is read from it, and several GPUs would wait for its gradient
            parameter.requires_grad_(False)
    if recipe.adapt.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
        if what.text_encoder != "frozen":
            base.text_encoder.gradient_checkpointing_enable({"use_reentrant": False})
    phrases = list(recipe.grounding.phrases.values())
    text = class_text(phrases)
    columns = token_columns(base.tokenizer, text, phrases)
    weights = column_weights(columns, base.tokens)
    levels = recipe.grounding.levels
    denoiser = Denoiser(base.unet, base.text_encoder, ids(base.tokenizer, [text]), weights, levels)
    return Setup(recipe, base, denoiser.to(memory_format=torch.channels_last), lora, words, plateau(columns))


def optimizer_of(config: AdaptConfig) -> Any:
    """The class of the optimizer.

    Raises:
        MissingError: 8-bit Adam was asked for, and bitsandbytes is not installed.
    """
    if config.optimizer == "adamw":
        return torch.optim.AdamW
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise MissingError(
            "optimizer adamw8bit needs the package bitsandbytes",
            "type pip install 'cxrsynth[adam8bit]', or --set adapt.optimizer=adamw",
        ) from error
    return AdamW8bit
