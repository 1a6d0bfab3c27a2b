"""What a training starts from: a Stable-Diffusion folder, checked before a weight is read, or a fresh model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel

from cxrsynth.encoding import dumps, sha256
from cxrsynth.errors import MissingError, RecipeError
from cxrsynth.nets.autoencoder import encoder_digest
from cxrsynth.nets.bundle import Scheduler, TextEncoder, Tokenizer, Unet, Vae, hush, scheduler
from cxrsynth.nets.config import NoiseConfig, TextConfig, UnetConfig, WhatConfig
from cxrsynth.nets.denoiser import build_unet
from cxrsynth.nets.noise import schedule_of
from cxrsynth.nets.parts import load_text_encoder, load_tokenizer
from cxrsynth.nets.text import build_encoder, build_tokenizer
from cxrsynth.weights import Weights

CLIP = ("clip", "clip_text_model")


@dataclass(slots=True)
class Base:
    """The parts of a model, in float32 on the CPU.

    Attributes:
        name: of the model it was, empty where it is fresh.
        digest: sha256 of the model; of what it is built from where it is fresh.
        licence: of the model.
        size: side of its images in pixels, a multiple of what its grids need.
    """

    name: str
    digest: str
    licence: str
    unet: Unet
    text_encoder: TextEncoder
    tokenizer: Tokenizer
    vae: Vae
    schedule: Scheduler
    size: int

    @property
    def tokens(self) -> int:
        """Tokens of a prompt, begin, end and padding included."""
        return int(self.tokenizer.model_max_length)


def load_base(
    found: Weights,
    what: WhatConfig,
    noise: NoiseConfig,
    size: int | None = None,
    tokens: int | None = None,
    seed: int = 0,
) -> Base:
    """Check and read a base.

    Args:
        size: side of the images to train on, pixels; by default what the base was made for.
        tokens: length of a prompt; by default all the encoder reads.
        seed: of weights that have to be made anew.

    Raises:
        MissingError: a part cannot be read, or is of a kind that cannot be trained here.
        RecipeError: what the recipe asks for does not fit the base.
    """
    hush()
    unet_config, vae_config = config_of(found.path, "unet"), config_of(found.path, "vae")
    check_shapes(found, unet_config, vae_config)
    side = image_size(size, unet_config, vae_config)
    schedule = schedule_of(json.loads((found.path / "scheduler/scheduler_config.json").read_text()), noise)
    try:
        text_encoder, tokenizer = (
            read_encoder(what.encoder)
            if what.encoder is not None
            else (load_text_encoder(found.path), load_tokenizer(found.path))
        )
        width = int(text_encoder.config.hidden_size)
        if what.encoder is None and width != unet_config["cross_attention_dim"]:
            raise MissingError(
                f"the text encoder of '{found.name}' gives {width} numbers a token, "
                f"its UNet reads {unet_config['cross_attention_dim']}",
                "the folder is mixed from two models: copy one of them whole",
            )
        unet = UNet2DConditionModel.from_pretrained(
            found.path, subfolder="unet", torch_dtype=torch.float32, local_files_only=True
        )
        vae = AutoencoderKL.from_pretrained(
            found.path, subfolder="vae", torch_dtype=torch.float32, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise MissingError(f"the model '{found.name}' cannot be read: {error}", "download or train it again") from error
    if width != unet_config["cross_attention_dim"]:
        if what.unet != "full":
            raise RecipeError(
                f"the encoder {what.encoder} gives {width} numbers a token, "
                f"the UNet reads {unet_config['cross_attention_dim']}: its keys and values have to be learned anew",
                "type --set what.unet=full, or take an encoder of the UNet's width",
            )
        unet = widen(unet, width, seed)
    unet.register_to_config(sample_size=side // 2 ** (len(vae.config.block_out_channels) - 1))
    limit_tokens(tokenizer, text_encoder, tokens)
    vae = vae.eval().requires_grad_(False)
    return Base(found.name, found.digest, found.licence, unet, text_encoder, tokenizer, vae, schedule, side)


def config_of(folder: Path, part: str) -> dict[str, Any]:
    """``config.json`` of a part."""
    body: dict[str, Any] = json.loads((folder / part / "config.json").read_text())
    return body


def check_shapes(found: Weights, unet: dict[str, Any], vae: dict[str, Any]) -> None:
    """Refuse what this training cannot feed.

    Raises:
        MissingError: naming the part and the number that does not fit.
    """
    kind = unet.get("_class_name", "UNet2DConditionModel")
    hint = "take a Stable-Diffusion 1.x or 2.x model for text to image"
    latents, takes, gives = vae.get("latent_channels", 4), unet.get("in_channels", 4), unet.get("out_channels", 4)
    colours = vae.get("in_channels", 3)
    if kind != "UNet2DConditionModel":
        raise MissingError(f"'{found.name}' denoises with a {kind}, not with a UNet2DConditionModel", hint)
    if takes != latents or gives != latents:
        raise MissingError(
            f"the UNet of '{found.name}' reads {takes} and gives {gives} channels, its autoencoder has {latents}",
            f"{hint}; one for inpainting or depth reads more than the latents",
        )
    if colours not in (1, 3) or vae.get("out_channels", 3) != colours:
        raise MissingError(f"the autoencoder of '{found.name}' has {colours} colours, 1 or 3 are understood", hint)
    extra = unet.get("addition_embed_type") or unet.get("class_embed_type") or unet.get("encoder_hid_dim_type")
    if extra:
        raise MissingError(f"the UNet of '{found.name}' wants more than a text ({extra})", hint)
    if not isinstance(unet.get("cross_attention_dim"), int):
        raise MissingError(f"the UNet of '{found.name}' has more than one text width", hint)


def image_size(wanted: int | None, unet: dict[str, Any], vae: dict[str, Any]) -> int:
    """Side of the images to train on, pixels."""
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    native = unet.get("sample_size") or 64
    side = native if isinstance(native, int) else max(native)
    size = wanted or side * factor
    multiple = factor * 2 ** (len(unet["block_out_channels"]) - 1)
    if size % multiple:
        raise RecipeError(
            f"images.size {size} is no multiple of {multiple}",
            f"type --set images.size={-(-size // multiple) * multiple}",
        )
    return int(size)


def read_encoder(folder: Path) -> tuple[TextEncoder, Tokenizer]:
    """A text encoder of another origin: a folder of transformers, or a Stable-Diffusion folder that has one.

    Raises:
        MissingError: there is no text encoder, or no fast tokenizer.
    """
    if (folder / "model_index.json").exists():
        return load_text_encoder(folder), load_tokenizer(folder)
    if not (folder / "config.json").exists():
        raise MissingError(f"{folder} holds no text encoder (config.json)", "name a folder of transformers")
    kind = json.loads((folder / "config.json").read_text()).get("model_type")
    model = transformers.CLIPTextModel if kind in CLIP else transformers.AutoModel
    encoder = model.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True, trust_remote_code=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        folder, use_fast=True, local_files_only=True, trust_remote_code=False
    )
    if not tokenizer.is_fast or tokenizer.pad_token_id is None:
        raise MissingError(
            f"the tokenizer in {folder} cannot pad, or cannot tell where its tokens lie",
            "convert it to a fast tokenizer (tokenizer.json) with a padding token",
        )
    return encoder, tokenizer


def limit_tokens(tokenizer: Tokenizer, text_encoder: TextEncoder, most: int | None) -> None:
    """Let the tokenizer cut and pad to what the encoder reads, or to ``most``; it is saved with this length."""
    limit = min(int(tokenizer.model_max_length), int(text_encoder.config.max_position_embeddings))
    if most is not None and most > limit:
        raise RecipeError(f"words.tokens {most} is more than the encoder reads", f"at most {limit}")
    tokenizer.model_max_length = most or limit


def widen(unet: Unet, width: int, seed: int) -> Unet:
    """The UNet for texts of another width: keys and values of its cross-attention are new, all else is kept."""
    torch.manual_seed(seed)
    wide = UNet2DConditionModel.from_config({**unet.config, "cross_attention_dim": width})
    old, new = unet.state_dict(), wide.state_dict()
    wide.load_state_dict({name: old[name] if old[name].shape == new[name].shape else new[name] for name in new})
    return wide


def fresh_base(
    vae: Vae, captions: Sequence[str], text: TextConfig, unet: UnetConfig, noise: NoiseConfig, seed: int
) -> Base:
    """Untrained networks on an autoencoder, with a vocabulary of the captions' own words.

    The noise schedule has zero SNR at its last step, so that an image may have any tone; velocities are predicted.
    """
    tokenizer = build_tokenizer(captions, text)
    torch.manual_seed(seed)
    side = vae.config.sample_size // 2 ** (len(vae.config.block_out_channels) - 1)
    denoiser = build_unet(unet, side, vae.config.latent_channels, text.width)
    encoder = build_encoder(tokenizer, text)
    schedule = schedule_of(dict(scheduler().config), noise)
    vae = vae.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    what = sha256(dumps([encoder_digest(vae), text.model_dump(mode="json"), unet.model_dump(mode="json"), seed]))
    return Base("", what, "", denoiser, encoder, tokenizer, vae, schedule, int(vae.config.sample_size))
