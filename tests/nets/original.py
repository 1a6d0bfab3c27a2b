"""Stable Diffusion as one state dict in the layout its authors publish.

The denoiser is ``model.diffusion_model``, the autoencoder ``first_stage_model``, the text encoder ``cond_stage_model``.
"""

import re
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from cxrsynth.nets.parts import config

# What the layers of a block are called, theirs and ours.
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
OUTER = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def state_dict(folder: Path) -> dict[str, Tensor]:
    """All weights of a model folder under the names of the original layout."""
    unet, vae, text = (
        load_file(next((folder / part).glob("*.safetensors"))) for part in ("unet", "vae", "text_encoder")
    )
    layers = int(config(folder, "unet")["layers_per_block"])
    last = len(config(folder, "vae")["block_out_channels"]) - 1
    found = {f"model.diffusion_model.{of_unet(name, layers)}": value for name, value in unet.items()}
    for name, value in vae.items():
        new = of_vae(name, last)
        # Attention of the original autoencoder is made of convolutions.
        is_matrix = ".attn_1." in new and new.endswith("weight") and value.ndim == 2
        found[f"first_stage_model.{new}"] = value[:, :, None, None].contiguous() if is_matrix else value
    for name, value in text.items():
        found[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = value
    return found


def of_unet(name: str, layers: int) -> str:
    """The original name of a weight of the denoiser; ``layers``: of each of its blocks."""
    name = re.sub(r"(resnets\.\d+)\.(\w+)\.", lambda m: f"{m[1]}.{RESNET.get(m[2], m[2])}.", name)
    for ours, theirs in OUTER.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    name = re.sub(r"^mid_block\.attentions\.0", "middle_block.1", name)
    name = re.sub(r"^mid_block\.resnets\.(\d)", lambda m: f"middle_block.{2 * int(m[1])}", name)
    step = layers + 1
    for kind, place in (("resnets", 0), ("attentions", 1)):
        name = re.sub(
            rf"^down_blocks\.(\d)\.{kind}\.(\d)",
            lambda m, place=place: f"input_blocks.{1 + step * int(m[1]) + int(m[2])}.{place}",
            name,
        )
        name = re.sub(
            rf"^up_blocks\.(\d)\.{kind}\.(\d)",
            lambda m, place=place: f"output_blocks.{step * int(m[1]) + int(m[2])}.{place}",
            name,
        )
    name = re.sub(
        r"^down_blocks\.(\d)\.downsamplers\.0\.conv", lambda m: f"input_blocks.{step * (int(m[1]) + 1)}.0.op", name
    )
    return re.sub(
        r"^up_blocks\.(\d)\.upsamplers\.0\.conv", lambda m: f"output_blocks.{step * int(m[1]) + layers}.2.conv", name
    )


def of_vae(name: str, last: int) -> str:
    """The original name of a weight of the autoencoder; ``last``: number of its coarsest level."""
    name = re.sub(r"(resnets\.\d)\.conv_shortcut", r"\1.nin_shortcut", name)
    name = name.replace("conv_norm_out", "norm_out")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = re.sub(
        r"mid_block\.attentions\.0\.(to_out\.0|\w+)", lambda m: f"mid.attn_1.{ATTENTION.get(m[1], m[1])}", name
    )
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{last - int(m[1])}.block", name)
    return re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample", name)
