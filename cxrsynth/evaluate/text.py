"""What the text encoder knows: a linear probe on its frozen embeddings, and retrieval of captions by images.

RoentGen probes its text encoder the same way before and after adaptation (arXiv 2211.12737: +25 % on pneumothorax). A
probe on captions that name the finding only spells: those figures are near 1 for any encoder. So it learns from
captions in the words of the collection and is also tested in other words, where there is one that does not contain the
first. A bag of words, which knows no synonym, and the same encoder with random weights stand beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import set_seed

from cxrsynth.data.captions import SYNONYMS
from cxrsynth.data.dataset import rows, trainable
from cxrsynth.data.patients import patient_id
from cxrsynth.domain.lexicon import FINDINGS, TRAITS, knowledge, truth
from cxrsynth.errors import UsageError
from cxrsynth.evaluate.features import FeatureNet
from cxrsynth.evaluate.images import group
from cxrsynth.evaluate.results import Record, record
from cxrsynth.nets.parts import load_text_encoder, load_tokenizer
from cxrsynth.nets.text import ids
from cxrsynth.statistics import auroc_interval, bootstrap

BATCH = 64
RIDGE = 30.0
LEAST = 10  # captions of each kind that a probe needs on each side
NEAREST = 5
Embed = Callable[[Sequence[str]], np.ndarray]


def embedder(model: Path, random: bool = False) -> Embed:
    """Texts -> (N, D) float32: hidden states of the text encoder, averaged over the words.

    Args:
        random: the same encoder with fresh weights: what its shape alone gives.
    """
    tokenizer, encoder = load_tokenizer(model), load_text_encoder(model)
    if random:
        set_seed(0)
        encoder = type(encoder)(encoder.config)
    encoder.eval()

    @torch.inference_mode()
    def embed(texts: Sequence[str]) -> np.ndarray:
        found = []
        distinct = sorted(set(texts))  # many images have the same caption
        for start in range(0, len(distinct), BATCH):
            part = distinct[start : start + BATCH]
            lengths = [len(tokens) for tokens in tokenizer(part, truncation=True)["input_ids"]]
            states = encoder(ids(tokenizer, part)).last_hidden_state.float()
            # Start and end tokens say nothing of their own; padding even less.
            found += [state[1 : max(2, n - 1)].mean(dim=0) for state, n in zip(states, lengths, strict=True)]
        place = {text: i for i, text in enumerate(distinct)}
        return torch.stack(found).numpy()[[place[text] for text in texts]]

    return embed


def bag_of_words(texts: Sequence[str]) -> Embed:
    """An embedder that counts the words that these texts have."""
    vocabulary = {word: i for i, word in enumerate(sorted({word for text in texts for word in words(text)}))}

    def embed(new: Sequence[str]) -> np.ndarray:
        counts = np.zeros((len(new), len(vocabulary)), np.float32)
        for i, text in enumerate(new):
            for word in words(text):
                if word in vocabulary:
                    counts[i, vocabulary[word]] += 1
        return counts

    return embed


def words(text: str) -> list[str]:
    """Lower-case words and numbers."""
    return re.findall(r"[a-z0-9-]+", text.lower())


def other_words(text: str) -> str:
    """The same caption with another word for everything that has one; unchanged where nothing has."""
    for plain, others in SYNONYMS.items():
        text = re.sub(rf"\b{re.escape(plain)}\b", others[-1], text, flags=re.IGNORECASE)
    return text


def ridge(x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """Ridge regression of (N,) or (N, T) targets on standardised (N, D) features; returns new features -> targets."""
    middle, spread = x.mean(axis=0), x.std(axis=0) + 1e-6
    z = np.concatenate([(x - middle) / spread, np.ones((len(x), 1))], axis=1).astype(np.float64)
    w = np.ones(len(x)) if weight is None else weight
    solved = np.linalg.solve((z * w[:, None]).T @ z + RIDGE * np.eye(z.shape[1]), (z * w[:, None]).T @ y)
    return lambda new: np.asarray(((new - middle) / spread) @ solved[:-1] + solved[-1])


def probe(model: Path, data: Path, split: str = "test", name: str = "", labels: Sequence[str] = ()) -> list[Record]:
    """AUROC of a linear probe per label, on captions in the same and in other words.

    Args:
        labels: findings and traits; all with enough captions by default.

    Raises:
        UsageError: no label has enough captions.
    """
    wanted = tuple(labels) or (*TRAITS, *FINDINGS)
    every = rows(data, keep=trainable)
    known = knowledge(every, wanted)
    parts = {part: [row for row in every if row["split"] == part] for part in ("train", split)}
    tables = {
        part: np.stack([truth(row, wanted, known, "normal") for row in found]) for part, found in parts.items() if found
    }
    if len(tables) < 2:
        raise UsageError(f"{data} has no images in split 'train' or '{split}'", "ingest it with splits")
    plain = {part: [str(row["prompt"]) for row in found] for part, found in parts.items()}
    changed = [other_words(text) for text in plain[split]]
    arms = {
        name or model.name: embedder(model),
        "random weights": embedder(model, random=True),
        "bag of words": bag_of_words(plain["train"]),
    }
    usable = [k for k in range(len(wanted)) if all(enough(table[:, k]) for table in tables.values())]
    if not usable:
        raise UsageError(f"no label has {LEAST} captions of each kind in both splits", "use a larger dataset")
    records = []
    for arm, embed in arms.items():
        learned, tested = embed(plain["train"]), {"same_words": embed(plain[split]), "other_words": embed(changed)}
        for k in usable:
            seen = ~np.isnan(tables["train"][:, k])
            target = 2 * tables["train"][seen, k] - 1
            share = np.where(target > 0, 1 / (target > 0).sum(), 1 / (target < 0).sum()) * len(target) / 2
            probe_of = ridge(learned[seen], target, share)
            asked = ~np.isnan(tables[split][:, k])
            patients = [patient_id(row) for row, here in zip(parts[split], asked, strict=True) if here]
            for metric, embedded in tested.items():
                if metric == "other_words" and not replaced(wanted[k], changed, tables[split][:, k]):
                    continue
                values = np.stack([probe_of(embedded[asked]), tables[split][asked, k]], axis=1)
                figures = auroc_interval(values, patients)
                where = ("text", arm, f"{data.name}:{split}", f"auroc_{metric}")
                records.append(record(*where, figures, len(values), wanted[k]))
    return records


def replaced(label: str, texts: Sequence[str], column: np.ndarray) -> bool:
    """Whether the captions that show a finding no longer name it by its own word."""
    shown = [text for text, value in zip(texts, column, strict=True) if value == 1]
    return label not in TRAITS and not any(label in words(text) for text in shown)


def enough(column: np.ndarray) -> bool:
    """Whether a label has enough captions of each kind."""
    return min(int((column == 1).sum()), int((column == 0).sum())) >= LEAST


def retrieval(model: Path, data: Path, net: FeatureNet, split: str = "test", name: str = "") -> list[Record]:
    """How often a held-out image finds its own caption among the nearest of all captions of the split.

    Text encoder and images share no space in a diffusion model; a linear map from captions to image features, learned
    on the train split, brings them together. Several images may have one caption: each caption stands once.
    """
    learn, test = group(data, "train"), group(data, split)
    texts: list[Any] = [[str(row["prompt"]) for row in part.rows] for part in (learn, test)]
    distinct = sorted(set(texts[1]))
    middle, spread = learn.features(net).mean(axis=0), learn.features(net).std(axis=0) + 1e-6
    images = unit((test.features(net) - middle) / spread)
    own = np.array([distinct.index(text) for text in texts[1]])
    records = []
    for arm, random in ((name or model.name, False), ("random weights", True)):
        embed = embedder(model, random)
        to_image = ridge(embed(texts[0]), (learn.features(net) - middle) / spread)
        likeness = images @ unit(to_image(embed(distinct))).T
        rank = (likeness > likeness[np.arange(len(own)), own][:, None]).sum(axis=1)
        patients = [patient_id(row) for row in test.rows]
        hits = bootstrap((rank < NEAREST).astype(float), patients)
        half = bootstrap(rank / max(1, len(distinct) - 1), patients)
        where = ("text", arm, f"{data.name}:{split}")
        records.append(record(*where, f"recall_at_{NEAREST}", hits, len(own), f"{len(distinct)}_captions"))
        records.append(record(*where, "mean_rank_share", half, len(own), f"{len(distinct)}_captions"))
    return records


def unit(x: np.ndarray) -> np.ndarray:
    """(N, D) rows of length 1."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9))
