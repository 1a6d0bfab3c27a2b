"""What trains: the networks with the right parts unfrozen, and the texts whose attention is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cxrsynth.nets.base import Base
from cxrsynth.nets.denoiser import Denoiser
from cxrsynth.nets.grounding import plateau
from cxrsynth.nets.lora import inject
from cxrsynth.nets.taps import NOTHING, class_text, column_weights, finding_text, token_columns
from cxrsynth.nets.text import ids
from cxrsynth.train.tasks.diffusion.config import DiffusionRecipe


@dataclass(slots=True)
class Setup:
    """Everything that trains or is needed to.

    Attributes:
        lora: part -> its LoRA, empty where both parts train whole or not at all.
        words: key of an image -> what the model reads to it.
        height: (K,) the plateau that each class map can reach (`plateau`).
    """

    recipe: DiffusionRecipe
    base: Base
    denoiser: Denoiser
    lora: dict[str, Any]
    words: Mapping[str, str]
    height: Tensor

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


def build(base: Base, recipe: DiffusionRecipe, words: Mapping[str, str]) -> Setup:
    """The networks with what trains unfrozen; every process builds the same."""
    torch.manual_seed(recipe.training.seed)
    what = recipe.what
    lora: dict[str, Any] = {}
    for name, model, how, targets in (
        ("unet", base.unet, what.unet, what.targets),
        ("text_encoder", base.text_encoder, what.text_encoder, what.text_targets),
    ):
        model.requires_grad_(how == "full")
        if how == "lora":
            lora[name] = inject(model, targets, what.rank, what.alpha, what.dropout)
    for name, parameter in base.text_encoder.named_parameters():
        if "pooler" in name:  # nothing is read from it, and several GPUs would wait for its gradient
            parameter.requires_grad_(False)
    if recipe.training.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
        if what.text_encoder != "frozen":
            base.text_encoder.gradient_checkpointing_enable({"use_reentrant": False})
    texts, columns, against, heights = class_texts(base, recipe)
    weights, other = (torch.stack([column_weights(one, base.tokens) for one in each]) for each in (columns, against))
    levels = recipe.grounding.levels
    denoiser = Denoiser(base.unet, base.text_encoder, ids(base.tokenizer, texts), weights, other, levels)
    denoiser = denoiser.to(memory_format=torch.channels_last)
    return Setup(recipe, base, denoiser, lora, words, torch.tensor(heights))


Columns = list[list[list[int]]]


def class_texts(base: Base, recipe: DiffusionRecipe) -> tuple[list[str], Columns, Columns, list[float]]:
    """The texts that class maps are read from, as the generator reads them (`cxrsynth.generate.texts`).

    Returns:
        The texts; per text the tokens of all K classes, empty for those of other texts; the tokens each is compared
        with; and what the map of each class can reach.
    """
    grounding = recipe.grounding
    texts, columns, against, heights = [], [], [], []
    for group, alone in grounding.groups:
        own = list(group.values())
        text = finding_text(own[0]) if alone else class_text(own)
        *found, nothing = token_columns(base.tokenizer, text, [*own, NOTHING])
        named = dict(zip(group, found, strict=True))
        texts.append(text)
        columns.append([named.get(name, []) for name in grounding.names])
        against.append([nothing if alone and name in named else [] for name in grounding.names])
        heights += [1.0 if alone else plateau(found)] * len(group)
    return texts, columns, against, heights
