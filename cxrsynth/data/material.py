"""The images and captions of a training, looked at before anything is trained or written."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from cxrsynth.data.config import ImageConfig, WordConfig
from cxrsynth.data.dataset import rows as read_rows
from cxrsynth.data.dataset import trainable
from cxrsynth.data.paths import inside
from cxrsynth.data.patients import DatasetImage
from cxrsynth.data.reports import Cut, count_cut, unknown_only, words
from cxrsynth.errors import RecipeError, UsageError
from cxrsynth.nets.bundle import Tokenizer
from cxrsynth.records import Row
from cxrsynth.store import Store

# Field of a row while it trains: dataset and key. Two datasets may number their images alike.
PLACE = "place"


@dataclass(slots=True)
class Material:
    """What is learned from.

    Attributes:
        train: the training images.
        val: a few held-out images; may be empty.
        texts: caption of each training image, then of each held-out one.
        cut: what the encoder's limit takes away from the training captions.
        left_out: reason -> images that were skipped.
        weight: (train,) how often each image is drawn, or None.
    """

    train: list[DatasetImage]
    val: list[DatasetImage]
    texts: list[str]
    cut: Cut
    left_out: dict[str, int] = field(default_factory=dict)
    weight: np.ndarray | None = None

    def words(self) -> dict[str, str]:
        """Place of an image -> what the model reads to it."""
        return {image.row[PLACE]: text for image, text in zip((*self.train, *self.val), self.texts, strict=True)}

    def licences(self) -> dict[str, int]:
        """Licence -> training images under it."""
        return dict(Counter(str(image.row.get("licence") or "not stated") for image in self.train))

    def sources(self) -> dict[str, int]:
        """Source -> training images."""
        return dict(Counter(str(image.row.get("source") or "not stated") for image in self.train))


def gather(
    data: Sequence[Path],
    images: ImageConfig,
    captions: WordConfig,
    tokenizer: Tokenizer,
    simulated: bool = False,
    held_out: int = 0,
    seed: int = 0,
) -> Material:
    """Choose the images and check every one.

    Args:
        data: datasets; held-out images come from the first.
        simulated: whether images with simulated findings are wanted, whatever their source.
        held_out: how many images to validate on, at most.
        seed: of the choice of these.

    Raises:
        UsageError: no images; or broken ones, unless the recipe skips them.
        RecipeError: no weight where the recipe names a column, or captions that are too long and must not be cut.
    """
    chosen, only = images.shares, images.only

    def wanted(row: Row) -> bool:
        named = all(has_word(str(row.get(column) or ""), some) for column, some in only.items())
        ours = simulated and bool(row.get("simulated"))
        return trainable(row) and named and (not chosen or row.get("source") in chosen or ours)

    train: list[DatasetImage] = []
    skipped: Counter[str] = Counter()
    for number, root in enumerate(data):
        found = [{**row, PLACE: f"{number}/{row['key']}"} for row in read_rows(root, ("train",), wanted)]
        kept, broken = check(Store(root), found, images, captions, tokenizer)
        train += kept
        skipped.update(broken)
    first = Store(data[0])
    held = [{**row, PLACE: f"0/{row['key']}"} for row in first.rows() if row["split"] == "val" and wanted(row)]
    few = np.random.default_rng(seed).permutation(len(held))[:held_out]
    val, _ = check(first, [held[i] for i in sorted(few)], images, captions, tokenizer)
    texts = [words(image.row, captions) for image in (*train, *val)]
    cut = count_cut(tokenizer, texts[: len(train)], captions.long)
    return Material(train, val, texts, cut, dict(skipped), weights_of([image.row for image in train], images))


def has_word(text: str, some: Sequence[str]) -> bool:
    """Whether at least one of the words stands in the text as a whole word, in any case."""
    return any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in some)


def check(
    store: Store, rows: Sequence[Row], images: ImageConfig, captions: WordConfig, tokenizer: Tokenizer
) -> tuple[list[DatasetImage], dict[str, int]]:
    """The images that can be learned from, and reason -> how many were skipped.

    Raises:
        UsageError: images are broken and the recipe refuses them, or none is left.
    """
    reasons = {row["key"]: fault(store, row, words(row, captions), tokenizer) for row in rows}
    broken = {key: reason for key, reason in reasons.items() if reason}
    if broken and images.broken == "refuse":
        shown = "; ".join(f"{key}: {reason}" for key, reason in list(broken.items())[:5])
        raise UsageError(
            f"{len(broken)} of {len(rows)} images cannot be learned from: {shown}",
            "fix them, or add --set images.broken=skip to leave them out",
        )
    kept = [DatasetImage(store, row) for row in rows if not reasons[row["key"]]]
    if rows and not kept:
        raise UsageError(
            f"not one of {len(rows)} images can be learned from: {next(iter(broken.values()))}",
            "see words.column and words.sections of the recipe",
        )
    return kept, dict(Counter(broken.values()))


def fault(store: Store, row: Row, text: str, tokenizer: Tokenizer) -> str:
    """Why a image cannot be learned from; empty where it can."""
    if not text:
        return "image without a caption"
    if unknown_only(tokenizer, text):
        return "words of which the encoder knows none"
    path = inside(store.root, row["image"])
    if not path.exists():
        return "caption without an image"
    try:
        with Picture.open(path) as image:
            image.verify()  # checksums, without decoding
    except (OSError, SyntaxError, ValueError):
        return "image cannot be read"
    return ""


def weights_of(rows: Sequence[Row], config: ImageConfig) -> np.ndarray | None:
    """(N,) float64 weights from the column that the recipe names, None where it names none.

    Raises:
        RecipeError: a image has no weight, or one that is no number of at least 0; or all are 0.
    """
    if config.weight is None:
        return None
    values = []
    for row in rows:
        try:
            value = float(row.get(config.weight, ""))
        except (TypeError, ValueError):
            value = math.nan
        if not value >= 0 or math.isinf(value):
            raise RecipeError(
                f"image {row['key']} has no usable weight in column '{config.weight}': {row.get(config.weight)!r}",
                "give every image a number of at least 0, or leave images.weight out",
            )
        values.append(value)
    if not sum(values):
        raise RecipeError(f"all weights in column '{config.weight}' are 0", "give some image a weight above 0")
    return np.array(values)
