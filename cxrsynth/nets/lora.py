"""LoRA (Hu et al., ICLR 2022): a small file that changes a large model, and belongs to one base only.

The file is what diffusers calls LoRA weights, so that its pipelines load it; `adapter.json` beside it names the base.
Here an adapter is used by being merged into its base, which gives a plain model folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError
from torch import nn

from cxrsynth.data.documents import read_json
from cxrsynth.encoding import dumps
from cxrsynth.errors import MismatchError, MissingError, RecipeError, UsageError
from cxrsynth.files import publish
from cxrsynth.nets.bundle import TextEncoder, Unet, hush, save
from cxrsynth.weights import Weights

ABOUT = "adapter.json"
FILE = "pytorch_lora_weights.safetensors"


def inject(
    model: nn.Module, targets: Sequence[str], rank: int, alpha: int | None = None, dropout: float = 0.0
) -> LoraConfig:
    """Put a LoRA beside every target layer and freeze all else; it starts as no change.

    Args:
        targets: ends of the names of linear and convolution layers.
        alpha: scale times rank; the rank by default, scale 1.
        dropout: in front of the LoRA's own weights.

    Raises:
        RecipeError: the model has no such layer.
    """
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha or rank,
        lora_dropout=dropout,
        init_lora_weights="gaussian",
        target_modules=list(targets),
    )
    model.requires_grad_(False)
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        raise RecipeError(
            f"{type(model).__name__} has no layer called {', '.join(targets)}",
            "name its linear layers: what.targets, what.text_targets, or targets of a pathology adapter",
        ) from error
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return config


def merge(model: nn.Module) -> None:
    """Add every LoRA to the layer beside it and take it away, in place."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, layer.get_base_layer())


def save_adapter(
    folder: Path, unet: Unet, text_encoder: TextEncoder, configs: Mapping[str, LoraConfig], about: dict[str, Any]
) -> None:
    """Write the adapter as a whole.

    Args:
        configs: ``unet`` and ``text_encoder``, as far as they have a LoRA.
        about: goes into ``adapter.json``: ``base``, ``base_sha256`` and what else is worth knowing.
    """
    layers: dict[str, Any] = {}
    for name, model in (("unet", unet), ("text_encoder", text_encoder)):
        if name in configs:
            state = {key: value.detach().cpu() for key, value in get_peft_model_state_dict(model).items()}
            layers[f"{name}_lora_layers"] = convert_state_dict_to_diffusers(state)
            layers[f"{name}_lora_adapter_metadata"] = configs[name].to_dict()

    def write(path: Path) -> None:
        StableDiffusionPipeline.save_lora_weights(path, weight_name=FILE, **layers)
        (path / ABOUT).write_bytes(dumps(about))
        (path / FILE).chmod((path / ABOUT).stat().st_mode)  # the library leaves it to its owner alone

    publish(folder, write)


def merge_adapter(adapter: Path, base: Weights, out: Path) -> Path:
    """Write the base with the adapter in it as a model folder.

    Raises:
        MissingError: no adapter there.
        MismatchError: it was trained on another base, or ``out`` is there already.
    """
    about = read_about(adapter)
    if about["base_sha256"] != base.digest:
        raise MismatchError(
            f"{adapter} was trained on '{about['base']}' ({about['base_sha256'][:12]}), "
            f"'{base.name}' is another model ({base.digest[:12]})",
            f"name its own base with --base {about['base']}",
        )
    if out.exists():
        raise MismatchError(f"{out} is there already", "choose another folder with -o; nothing was touched")
    hush()
    whole = StableDiffusionPipeline.from_pretrained(base.path, local_files_only=True, safety_checker=None)
    whole.to(torch.float32)
    try:
        whole.load_lora_weights(adapter, weight_name=FILE)
        whole.fuse_lora()
        whole.unload_lora_weights()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise MissingError(f"{adapter / FILE} cannot be read: {error}", "copy the adapter again") from error
    save(out, whole, card=str(about.get("card", "")))
    return out


def read_about(adapter: Path) -> dict[str, Any]:
    """``adapter.json``.

    Raises:
        MissingError: there is none, or it says nothing of a base.
    """
    try:
        body = read_json(adapter / ABOUT)
    except UsageError as error:
        raise MissingError(
            f"{adapter} holds no adapter ({ABOUT})", "name the folder RUN/adapter that train-diffusion wrote"
        ) from error
    if not isinstance(body, dict) or not {"base", "base_sha256"} <= set(body):
        raise MissingError(f"{adapter / ABOUT} does not say what the adapter belongs to", "train it again")
    return body
