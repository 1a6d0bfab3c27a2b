"""A tiny random pipeline of every family, built from configs: real code of diffusers, milliseconds a step."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from cxrsynth.nets.config import TextConfig
from cxrsynth.nets.text import build_encoder, build_tokenizer
from tests.tiny import WORDS

TEXT = TextConfig(vocabulary=560, width=32, layers=1, heads=2)
SIZE = 64  # pixels; latents 16 x 16, of Sana 8 x 8


def sentence_pieces() -> Any:
    """A T5 tokenizer learned from a few captions."""
    whole = Tokenizer(models.Unigram())
    whole.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    whole.train_from_iterator([text.lower() for text in WORDS], trainer)
    vocabulary = [(piece, score) for piece, score in json.loads(whole.to_str())["model"]["vocab"]]
    return transformers.T5TokenizerFast(vocab=vocabulary, extra_ids=0, model_max_length=512)


def t5(tokenizer: Any, width: int = 32) -> Any:
    """An encoder for it."""
    config = transformers.T5Config(
        vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=64, num_layers=1, num_heads=2, is_encoder_decoder=False
    )
    return transformers.T5EncoderModel(config).eval()


def gemma(width: int = 32) -> tuple[Any, Any]:
    """A tiny decoder-only language model and its tokenizer."""
    whole = Tokenizer(models.BPE())
    whole.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    first = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=first, show_progress=False)
    whole.train_from_iterator([text.lower() for text in WORDS], trainer)
    learned = json.loads(whole.to_str())["model"]
    tokenizer = transformers.GemmaTokenizer(vocab=learned["vocab"], merges=[tuple(m) for m in learned["merges"]])
    config = transformers.Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
    )
    return tokenizer, transformers.Gemma2Model(config).eval()


def clips() -> dict[str, Any]:
    """Two CLIP encoders with projections, as SDXL and SD3 have them (the first of SDXL without)."""
    tokenizer = build_tokenizer(WORDS, TEXT)
    config = {**build_encoder(tokenizer, TEXT).config.to_dict(), "projection_dim": 16, "num_hidden_layers": 2}
    made = [transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**config)).eval() for _ in range(2)]
    return {
        "tokenizer": tokenizer,
        "text_encoder": made[0],
        "tokenizer_2": tokenizer,
        "text_encoder_2": made[1],
    }


def vae(channels: int = 4, **more: Any) -> Any:
    """A tiny autoencoder, 4 pixels a latent."""
    return diffusers.AutoencoderKL(
        latent_channels=channels,
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        sample_size=SIZE,
        **more,
    )


def unet(**more: Any) -> Any:
    """A tiny UNet with cross-attention at levels 1 and 2."""
    return diffusers.UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        attention_head_dim=8,
        norm_num_groups=8,
        **{"cross_attention_dim": 32, **more},
    )


def ddim(**more: Any) -> Any:
    """The schedule of Stable Diffusion."""
    return diffusers.DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1, **more)


def sd() -> Any:
    """Stable Diffusion."""
    tokenizer = build_tokenizer(WORDS, TEXT)
    return diffusers.StableDiffusionPipeline(
        vae=vae(),
        text_encoder=build_encoder(tokenizer, TEXT).eval(),
        tokenizer=tokenizer,
        unet=unet(),
        scheduler=ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def lcm() -> Any:
    """A latent consistency model: guidance is an input, few steps."""
    parts = sd().components
    parts |= {"unet": unet(time_cond_proj_dim=16), "scheduler": diffusers.LCMScheduler(beta_schedule="scaled_linear")}
    parts.pop("image_encoder", None)
    return diffusers.LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)


def sdxl() -> Any:
    """Stable Diffusion XL."""
    parts = clips()
    first = transformers.CLIPTextModel(parts["text_encoder"].config).eval()
    return diffusers.StableDiffusionXLPipeline(
        **{**parts, "text_encoder": first},
        vae=vae(),
        unet=unet(
            cross_attention_dim=64,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 16,
        ),
        scheduler=ddim(),
        add_watermarker=False,
    )


def pixart(kind: str = "PixArtSigmaPipeline") -> Any:
    """PixArt with a learned variance, as the published ones have it."""
    tokenizer = sentence_pieces()
    transformer = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=16,
        sample_size=16,
        patch_size=2,
        caption_channels=32,
        use_additional_conditions=False,
    )
    return getattr(diffusers, kind)(
        tokenizer=tokenizer, text_encoder=t5(tokenizer), vae=vae(), transformer=transformer, scheduler=ddim()
    )


def sana() -> Any:
    """Sana with its deep-compression autoencoder and normalised queries and keys."""
    tokenizer, encoder = gemma()
    transformer = diffusers.SanaTransformer2DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=32,
        sample_size=8,
        patch_size=1,
        qk_norm="rms_norm_across_heads",
        timestep_scale=1.0,
    )
    deep = diffusers.AutoencoderDC(
        latent_channels=8,
        attention_head_dim=4,
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        encoder_layers_per_block=(1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        encoder_qkv_multiscales=((), (), (), ()),
        decoder_qkv_multiscales=((), (), (), ()),
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        scaling_factor=0.41407,
    )
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return diffusers.SanaPipeline(
        tokenizer=tokenizer, text_encoder=encoder, vae=deep, transformer=transformer, scheduler=scheduler
    )


def sd3(long: bool = True) -> Any:
    """Stable Diffusion 3, with a T5 or without."""
    tokenizer = sentence_pieces()
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=64,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        qk_norm="rms_norm",
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False),
        tokenizer_3=tokenizer if long else None,
        text_encoder_3=t5(tokenizer, 64) if long else None,
        **clips(),
    )


def flux(guided: bool = True) -> Any:
    """Flux dev (guidance is an input), or schnell (none)."""
    tokenizer = sentence_pieces()
    parts = clips()
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        guidance_embeds=guided,
        axes_dims_rope=(4, 6, 6),
    )
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae(shift_factor=0.06),
        text_encoder=transformers.CLIPTextModel(parts["text_encoder"].config).eval(),
        tokenizer=parts["tokenizer"],
        text_encoder_2=t5(tokenizer),
        tokenizer_2=tokenizer,
        transformer=transformer,
    )


BUILD: dict[str, Callable[[], Any]] = {
    "sd": sd,
    "lcm": lcm,
    "sdxl": sdxl,
    "pixart-alpha": lambda: pixart("PixArtAlphaPipeline"),
    "pixart-sigma": pixart,
    "sana": sana,
    "sd3": sd3,
    "sd3-without-t5": lambda: sd3(long=False),
    "flux-dev": flux,
    "flux-schnell": lambda: flux(guided=False),
}


def build(name: str, folder: Path, seed: int = 0) -> Path:
    """Save one of `BUILD` as a diffusers folder."""
    torch.manual_seed(seed)
    BUILD[name]().save_pretrained(folder)
    return folder
