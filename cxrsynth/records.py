"""The records that travel through the factory, in this order: Spec, Draw, Sample, Verdict, Receipt.

Axes are (H, W) rows and columns of the image, K classes in recipe order (background not counted), and h, w the
rows and columns of a low-resolution attention map. The patient's right is on the left of the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from cxrsynth.errors import MismatchError

# One line of ``meta``: what is known of an image.
Row = dict[str, Any]
# Pixels of a mask that nobody labelled: not learned from, not measured, painted like background.
IGNORE = 255
# Streams of random numbers that one sample owns; a new use takes a new number and never reuses an old one.
STREAM_PROMPT, STREAM_NOISE, STREAM_SPLIT, STREAM_CONTROL, STREAM_FINDING = 0, 1, 2, 3, 4


def rng(seed: int, index: int, stream: int, attempt: int = 0) -> np.random.Generator:
    """The random generator that one stream of one sample owns.

    ``SeedSequence`` with a spawn key: neighbouring recipe seeds share nothing (``seed + index`` would make the
    recipes with seed 0 and 1 share all but one sample).
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, stream, attempt)))


@dataclass(frozen=True, slots=True)
class Spec:
    """What one sample shall be. No arrays: all randomness is spent here.

    Attributes:
        index: position in the dataset, from 0.
        key: file stem, ``000000017``.
        prompt: the text the image is generated from.
        negative_prompt: what it shall not show; ignored without classifier-free guidance.
        phrases: class name -> the phrase whose attention locates the class, in recipe order.
        present: class name -> whether the prompt asks for it (an optional class may be absent).
        seed: 63-bit seed of the sample's own noise.
        split: ``train``, ``val`` or ``test``.
        attempt: 0, then one more after every rejection.
        fields: what the prompt was filled with, for example ``{"view": "PA"}``.
        control: what is imposed, in plain types (see `cxrsynth.recipe.control.Control.impose`), or None.
    """

    index: int
    key: str
    prompt: str
    negative_prompt: str
    phrases: dict[str, str]
    present: dict[str, bool]
    seed: int
    split: str
    attempt: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    control: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What refiners want to know from the network beside the class maps; nothing by default.

    Attributes:
        levels: grids of self-attention, 1 the latent grid, 2 half of it, each once.
        heads: mask head weights, by the name or path the recipe gives, each once.
    """

    levels: tuple[int, ...] = ()
    heads: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.levels or self.heads)

    def __or__(self, other: Asked) -> Asked:
        """What either of the two wants."""
        return Asked(tuple(dict.fromkeys(self.levels + other.levels)), tuple(dict.fromkeys(self.heads + other.heads)))


# Name of the read that says which part of the image the others cover: top, bottom, left, right, as fractions.
BOX = "box"


@dataclass(frozen=True, slots=True)
class Draw:
    """What the generator gave for one Spec.

    Attributes:
        image: (H, W) uint8, 0 black to 255 white; a non-finite image is given as ``finite=False``.
        maps: (K, h, w) float32, >= 0, raw class attention averaged over layers, heads and steps, not normalised.
        control: (K, H, W) bool, the masks that were imposed (phantom: the exact masks), or None.
        finite: whether every pixel was a number before it became uint8.
        refused: why it cannot show what its Spec imposes, machine-readable, ``opacity.carrier``; empty where it does.
        reads: answers to what the chain `Asked`, float16: ``self_<level>`` (h, w, h, w), from each place to all places,
            each summing to 1; ``decoder_<sha256>`` (C, h, w) in 0..1; and `BOX` where they cover a part of the image.
    """

    image: np.ndarray
    maps: np.ndarray
    control: np.ndarray | None = None
    finite: bool = True
    refused: str = ""
    reads: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def stored(cls, image: np.ndarray, arrays: Mapping[str, np.ndarray]) -> Draw:
        """A draw as it was kept: the image, and the arrays of its ``.npz``.

        Raises:
            MismatchError: they are no maps.
        """
        maps = arrays.get("maps")
        numbers = all(array.dtype.kind in "fbiu" and array.size for array in arrays.values())
        if maps is None or maps.ndim != 3 or not numbers:
            raise MismatchError("the stored maps of an image are damaged", "make its shard again: cxrsynth verify")
        reads = {name: array for name, array in arrays.items() if name not in ("maps", "control")}
        return cls(image, maps.astype(np.float32), arrays.get("control"), reads=reads)

    def arrays(self, maps: bool = True) -> dict[str, np.ndarray] | None:
        """What goes into the ``.npz``: the maps in half precision, the reads, and the masks that were imposed.

        Args:
            maps: without, only what was imposed is kept; None where nothing was.
        """
        imposed = {} if self.control is None else {"control": self.control}
        return {"maps": self.maps.astype(np.float16), **self.reads, **imposed} if maps else imposed or None


@dataclass(frozen=True, slots=True)
class Sample:
    """An image with its labels, before any check.

    Attributes:
        image: (H, W) uint8.
        mask: (H, W) uint8 class ids, 0 background.
        prob: (K, H, W) float32 in 0..1, class probabilities after refinement; with background they sum to 1.
        layers: (K, H, W) bool, one mask per class; classes may overlap here though not in ``mask``.
        classes: class name -> id, in the order of K.
        scores: numbers worth keeping, for example ``{"presence.heart": 0.41}``.
        finite: as in Draw.
        required: names of the classes that have to be there.
        refused: as in Draw.
    """

    image: np.ndarray
    mask: np.ndarray
    prob: np.ndarray
    layers: np.ndarray
    classes: dict[str, int]
    scores: dict[str, float] = field(default_factory=dict)
    finite: bool = True
    required: tuple[str, ...] = ()
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Keep, or a machine-readable reason (``area.heart.small``), with the scores that led to it."""

    keep: bool
    reason: str = ""
    scores: dict[str, float] = field(default_factory=dict)


KEEP = Verdict(True)


@dataclass(slots=True)
class Entry:
    """One sample as it goes to disk.

    Attributes:
        row: its line in ``meta`` (key, prompt, split, ...); file paths are filled in here.
        image: (H, W) uint8.
        mask: (H, W) uint8 class ids, or None for an image nobody has labelled.
        layers: (K, H, W) bool, K <= 8, where classes overlap; None otherwise.
        maps: arrays for the ``.npz``, or None.
    """

    row: Row
    image: np.ndarray
    mask: np.ndarray | None = None
    layers: np.ndarray | None = None
    maps: dict[str, np.ndarray] | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The proof that a shard exists; written last.

    Attributes:
        shard: shard number.
        fingerprint: sha256 of the recipe that made it.
        planned: keys the shard was asked for.
        keys: keys that were kept; what is missing was rejected at every attempt.
        rejects: reason -> how often.
        files: path relative to the dataset -> ``{"sha256": hex, "size": bytes}``.
        versions: package -> version. Times and hosts go to ``runs/``: a receipt has the same bytes whoever made it.
        computed: what the bits of an image depend on besides: ``device`` (its kind) and ``dtype`` of the denoiser;
            empty for a generator without weights.
    """

    shard: int
    fingerprint: str
    planned: list[str]
    keys: list[str]
    rejects: dict[str, int]
    files: dict[str, dict[str, Any]]
    versions: dict[str, str] = field(default_factory=dict)
    computed: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The receipt as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Failure:
    """A shard that could not be made: the error and how often it was tried."""

    shard: int
    error: str
    traceback: str
    tries: int


class Generator(Protocol):
    """Draws images. Built once per worker."""

    def draw(self, specs: list[Spec]) -> list[Draw]:
        """One batch, in order."""
        ...


class Refiner(Protocol):
    """Improves class probabilities by looking at the image."""

    def __call__(self, image: np.ndarray, prob: np.ndarray) -> np.ndarray:
        """(H, W) uint8, (K, H, W) float32 -> (K, H, W) float32 in 0..1."""
        ...


class Check(Protocol):
    """Checks a sample."""

    def __call__(self, sample: Sample, kept: list[Sample]) -> Verdict:
        """``kept`` holds what this shard has kept so far, for checks that compare."""
        ...
