"""The words: a CLIP tokenizer with a vocabulary of its own, and a small CLIP text encoder trained from scratch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, models, trainers
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from cxrsynth.nets.config import TextConfig

BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(captions: Sequence[str], config: TextConfig) -> CLIPTokenizer:
    """A byte-level BPE learned from captions: their words become single tokens, any other text still has tokens."""
    blank = CLIPTokenizer()
    splitter = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    splitter.normalizer = blank.backend_tokenizer.normalizer
    splitter.pre_tokenizer = blank.backend_tokenizer.pre_tokenizer
    letters = sorted({letter for text in _bytes() for letter in text})
    endings = [f"{letter}</w>" for letter in letters]
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary - 2,
        end_of_word_suffix="</w>",
        initial_alphabet=letters,
        # Named beforehand: the trainer numbers letters that end a word in the order of a hash table, and breaks ties
        # between equally frequent pairs by these numbers.
        special_tokens=endings,
        show_progress=False,
    )
    splitter.train_from_iterator(captions, trainer)
    learned = _model(splitter)
    names = [*letters, *endings]
    names += [name for name, _ in sorted(learned["vocab"].items(), key=lambda item: item[1]) if name not in set(names)]
    vocabulary = {name: i for i, name in enumerate([*names, BOS, EOS])}
    merges: Any = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in learned["merges"]]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=config.tokens)


def build_encoder(tokenizer: CLIPTokenizer, config: TextConfig) -> CLIPTextModel:
    """An untrained text encoder for the tokenizer's vocabulary."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            intermediate_size=4 * config.width,
            projection_dim=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.tokens,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def ids(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """(B, tokens) int64, padded and cut as StableDiffusionPipeline does it."""
    encoded = tokenizer(
        list(texts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    return torch.as_tensor(encoded.input_ids)


def _bytes() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return list(ByteLevel.alphabet())


def _model(tokenizer: Tokenizer) -> dict[str, Any]:

    body: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return body
