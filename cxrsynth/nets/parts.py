"""The parts of a diffusers folder, read as its ``model_index.json`` says: weights only, no code, no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from cxrsynth import weights
from cxrsynth.errors import MissingError

# What reading a damaged or foreign part raises: their parsers are written in three languages, and each has its own.
UNREADABLE = (Exception,)
AGAIN = "download or train the model again"
HALF = "fp16"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON mapping of a model.

    Raises:
        MissingError: it is not there, or no JSON mapping.
    """
    return weights.read_json(path)


def index(folder: Path) -> dict[str, Any]:
    """``model_index.json``: what pipeline this is and the class of each part."""
    return read_json(folder / "model_index.json")


def config(folder: Path, part: str) -> dict[str, Any]:
    """``config.json`` of a part."""
    return read_json(folder / part / "config.json")


def named(folder: Path, part: str) -> tuple[str, str] | None:
    """(library, class) that the folder names for a part; None where it has none."""
    entry = index(folder).get(part)
    if not isinstance(entry, list) or len(entry) != 2 or None in entry:
        return None
    return str(entry[0]), str(entry[1])


def variant(folder: Path, part: str) -> str | None:
    """``fp16`` where only half-precision files are there, which the libraries do not look for by themselves."""
    names = [path.name for path in (folder / part).glob("*") if path.suffix in (".safetensors", ".bin")]
    return HALF if names and all(f".{HALF}" in name for name in names) else None


def load_part(folder: Path, part: str, dtype: torch.dtype, allowed: tuple[str, ...]) -> Any:
    """A denoiser or an autoencoder, on the CPU and in eval mode.

    Args:
        allowed: classes of diffusers that may stand there.

    Raises:
        MissingError: it is of another class, or cannot be read.
    """
    kind = config(folder, part).get("_class_name", allowed[0])
    if kind not in allowed:
        raise MissingError(f"the {part} of {folder} is a {kind}", f"supported here: {', '.join(allowed)}")
    try:
        found = getattr(diffusers, kind).from_pretrained(
            folder, subfolder=part, torch_dtype=dtype, local_files_only=True, variant=variant(folder, part)
        )
    except UNREADABLE as error:
        raise MissingError(f"the model in {folder} cannot be read: {part}: {error}", AGAIN) from error
    return found.eval()


def load_tokenizer(folder: Path, part: str = "tokenizer") -> Any:
    """A tokenizer of the folder, in its fast form, which knows where in the text a token lies.

    Raises:
        MissingError: there is none, it has no offsets, or its vocabulary is missing: then all texts look the same.
    """
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder / part, use_fast=True, local_files_only=True, trust_remote_code=False
        )
    except UNREADABLE as error:
        raise MissingError(f"no usable tokenizer in {folder / part}", AGAIN) from error
    if not tokenizer.is_fast:
        raise MissingError(
            f"the tokenizer in {folder} cannot tell where its tokens lie",
            "convert it to a fast tokenizer (tokenizer.json)",
        )
    try:
        known = [i for i in tokenizer("lung heart", add_special_tokens=False).input_ids if i != tokenizer.unk_token_id]
        alike = tokenizer("lung").input_ids == tokenizer("heart").input_ids
        tokenizer("lung", padding="max_length", truncation=True, max_length=min(8, int(tokenizer.model_max_length)))
    except UNREADABLE as error:
        raise MissingError(f"the tokenizer in {folder / part} reads no text: {error}", AGAIN) from error
    if not known or alike:
        raise MissingError(
            f"the tokenizer in {folder / part} has no vocabulary: it reads every text as the same tokens",
            "copy vocab.json and merges.txt, or tokenizer.json, into that folder",
        )
    return tokenizer


def load_text_encoder(folder: Path, part: str = "text_encoder", dtype: torch.dtype = torch.float32) -> Any:
    """A text encoder of the folder, of the class its ``model_index.json`` names, on the CPU and in eval mode.

    Raises:
        MissingError: it is not one of transformers, or cannot be read.
    """
    library, class_name = named(folder, part) or ("nothing", "none")
    if library != "transformers" or not hasattr(transformers, class_name):
        raise MissingError(
            f"the text encoder {library}.{class_name} of {folder} is not supported",
            "use one from transformers, such as CLIPTextModel",
        )
    try:
        found = getattr(transformers, class_name).from_pretrained(
            folder,
            subfolder=part,
            torch_dtype=dtype,
            local_files_only=True,
            variant=variant(folder, part),
            trust_remote_code=False,
        )
    except UNREADABLE as error:
        raise MissingError(f"the model in {folder} cannot be read: {part}: {error}", AGAIN) from error
    return found.eval()


def token_limit(tokenizer: Any, encoder_config: dict[str, Any]) -> int:
    """How many tokens fit: what the tokenizer says, unless the encoder has fewer places."""
    places = int(encoder_config.get("max_position_embeddings") or 10**9)
    if encoder_config.get("model_type") in ("roberta", "xlm-roberta", "camembert"):
        places -= 2  # the first places are kept for padding
    return min(int(tokenizer.model_max_length), places)
