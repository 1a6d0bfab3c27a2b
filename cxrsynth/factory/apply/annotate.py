"""Labels for images that have none: the attention masks of the factory, on real radiographs.

The same chain from maps to masks as in generation, on maps read from real images. The result has the form of
every other dataset, so that it can be looked at, labelled again by another chain, or be a pilot for an AffinityNet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cxrsynth.data.borders import content
from cxrsynth.data.documents import read_json_lines
from cxrsynth.data.paths import refuse_overlap
from cxrsynth.encoding import dumps, lines, sha256
from cxrsynth.errors import MismatchError
from cxrsynth.factory.apply.image import Labelled, embed, fractions, label_one, seed_of, shrink
from cxrsynth.factory.apply.sources import Picture, Source, find, open_all
from cxrsynth.factory.computed import check_same, settled
from cxrsynth.factory.run import claim
from cxrsynth.ingest.radiograph import Polarity, was_turned
from cxrsynth.lock import writing
from cxrsynth.masks.labels import Labelling
from cxrsynth.pages.sheet import Item, contact_sheet, save
from cxrsynth.pool import spawn_pool
from cxrsynth.recipe import AttentionSpec, Recipe, masks_identity
from cxrsynth.records import BOX, Draw, Entry, Row
from cxrsynth.store import Store
from cxrsynth.weights import Weights

SHARD = 16
SHEET_IMAGES = 24


@dataclass(frozen=True, slots=True)
class Reading:
    """How images are read.

    Attributes:
        timesteps: how much noise is added; the maps of all of them are averaged. Little noise reads images best: from
            step 200 of 1000 on the maps become rounder.
        noises: noises per timestep.
        seed: of the noise.
        prompt: what the images are said to show.
    """

    timesteps: tuple[int, ...] = AttentionSpec.model_fields["timesteps"].default
    noises: int = 1
    seed: int = 0
    prompt: str = ""


@dataclass(slots=True)
class Result:
    """What became of the images; ``turned`` of those that are labelled were not upright."""

    out: str
    planned: int
    labelled: int = 0
    skipped: int = 0
    turned: int = 0
    refused: list[Row] = field(default_factory=list)


def annotate(
    images: Path,
    out: Path,
    recipe: Recipe,
    weights: Weights,
    reading: Reading,
    *,
    device: str = "auto",
    splits: Sequence[str] = (),
    origins: Sequence[str] = (),
    most: int | None = None,
    workers: int = 2,
    polarity: Polarity = "auto",
    on_images: Callable[[int, int], None] = lambda done, planned: None,
) -> Result:
    """Label images; typing the same command again goes on where it stopped.

    Args:
        images: an image, a folder of images, or a dataset.
        recipe: classes, attention and mask chain; what it says about prompts and sampling does not matter here.
        splits: of a dataset: only these.
        origins: of a dataset: only images of these sources.
        most: at most so many images, spread evenly over all of them.
        polarity: whether inverted, turned and mirrored images are looked for; never in a dataset.
        workers: processes that label while the next batch is read; 0 labels in this one.
        on_images: called with (images done, images planned) after every batch.

    Raises:
        UsageError: nothing to label, or ``out`` cannot be written, lies in ``images`` or holds them.
        MismatchError: ``out`` holds other images, or the same ones labelled otherwise.
    """
    refuse_overlap(images, out, around=True)
    sources = list(find(images, splits, origins))
    if most is not None and most < len(sources):
        sources = [sources[i * len(sources) // most] for i in range(most)]
    store = Store(out)
    identity = {
        "annotate": asdict(reading),
        "model": weights.digest,
        "classes": [item.model_dump(mode="json") for item in recipe.classes],
        "attention": recipe.attention.model_dump(mode="json"),
        "masks": masks_identity(recipe),
        "sampler": {name: getattr(recipe.sampler, name) for name in ("height", "width", "batch", "dtype")},
        "films": sha256(dumps([[source.key, source.digest] for source in sources])),
        **({"polarity": polarity} if any(source.image for source in sources) else {}),
    }
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    held = out / "identity.json"
    if held.exists() and Store(out).identity()["fingerprint"] != fingerprint:
        raise MismatchError(f"{out} holds other images, or images labelled otherwise", "choose another folder with -o")
    shards = [sources[start : start + SHARD] for start in range(0, len(sources), SHARD)]
    todo = [i for i, part in enumerate(shards) if not store.is_done(i, fingerprint, [one.key for one in part])]
    result = Result(str(out), len(sources))
    with writing(out):
        # Whoever reads the dataset compares the images that are there with the number that its recipe says.
        claim(store, recipe.model_copy(update={"count": len(sources)}), fingerprint, identity)
        result.skipped = len(sources) - sum(len(shards[i]) for i in todo)
        done = result.skipped

        def advance(images: int) -> None:
            nonlocal done
            done += images
            on_images(done, len(sources))

        if todo:
            label(
                todo, shards, Store(images), store, recipe, weights, reading, device, fingerprint, workers, advance,
                polarity,
            )  # fmt: skip
        rows = list(store.rows())
        result.labelled = len(rows)
        result.turned = sum(was_turned(row.get("notes") or ()) for row in rows)
        result.refused = troubles(store)
        store.write("summary.json", dumps({"planned": result.planned, "kept": len(rows), "refused": result.refused}))
        if rows:
            save(overlays(store, rows), out / "preview.png")
    return result


def label(
    todo: Sequence[int],
    shards: Sequence[Sequence[Source]],
    origin: Store,
    store: Store,
    recipe: Recipe,
    weights: Weights,
    reading: Reading,
    device: str,
    fingerprint: str,
    workers: int,
    advance: Callable[[int], None],
    polarity: Polarity = "auto",
) -> None:
    """Read, label and write the shards that are missing."""
    from cxrsynth.generate.reader import Reader
    from cxrsynth.generate.sampler import Latent

    labelling = Labelling.from_recipe(recipe)
    phrases = {item.name: item.phrase for item in recipe.classes}
    latent = Latent.from_recipe(settled(recipe, store, device), weights.path, device)
    check_same(store, latent.computed)
    reader = Reader(latent, phrases, reading.prompt)
    batch = recipe.sampler.batch
    with spawn_pool(workers) if workers else ThreadPoolExecutor(1) as pool:
        for shard in todo:
            pictures, refused = open_all(shards[shard], origin, polarity)
            waiting = []
            for start in range(0, len(pictures), batch):
                part = pictures[start : start + batch]
                waiting += submit(part, reader, reading, labelling, batch, pool)
                advance(len(part))
            advance(len(refused))
            keep_maps = recipe.masks.keep_maps
            entries = [
                entry(one, picture, draw, done.result(), recipe, keep_maps) for one, picture, draw, done in waiting
            ]
            store.write(f"troubles/{shard:05d}.jsonl", lines(refused))
            planned = [one.key for one in shards[shard]]
            store.write_shard(shard, entries, fingerprint=fingerprint, planned=planned, computed=latent.computed)


def submit(
    part: list[Picture], reader: Any, reading: Reading, labelling: Labelling, batch: int, pool: Executor
) -> list[tuple[Source, np.ndarray, Draw, Future[Labelled]]]:
    """Read one batch, and hand its labelling to the pool while the next one is read.

    A short batch is filled up with its last image: the maps of an image do not depend on how many are read beside it.
    """
    height, width = reader.size
    boxes = [content(picture) for _, picture in part]
    images = [shrink(picture[box], height, width) for (_, picture), box in zip(part, boxes, strict=True)]
    seeds = [seed_of(reading.seed, image) for image in images]
    missing = batch - len(part)
    filled = np.stack(images + images[-1:] * missing)
    maps, reads = reader.read(filled, seeds + seeds[-1:] * missing, reading.timesteps, reading.noises)
    waiting = []
    for (source, picture), image_maps, answers, box in zip(part, maps, reads, boxes, strict=False):
        whole = embed(image_maps, box, picture.shape)
        # The answers stay on the grid of the part that was read; refiners put them in their place.
        covers = {BOX: fractions(box, picture.shape)} if answers and whole is not image_maps else {}
        # As stored, so that labelling again gives the same masks.
        stored = whole.astype(np.float16).astype(np.float32)
        draw = Draw(shrink(picture, height, width), stored, reads={**answers, **covers})
        waiting.append((source, picture, draw, pool.submit(label_one, draw, labelling, picture.shape)))
    return waiting


def entry(
    source: Source, picture: np.ndarray, draw: Draw, labelled: Labelled, recipe: Recipe, keep_maps: bool
) -> Entry:
    """One image as it goes to disk; that a model made the mask is part of its row."""
    mask, own, scores = labelled
    given = {
        name: value for name, value in source.row.items() if name not in ("image", "mask", "layers", "maps", "shard")
    }
    row = {
        **given,
        "key": source.key,
        "scores": {name: round(float(value), 5) for name, value in scores.items()},
        "present": {item.name: not item.optional for item in recipe.classes},
        "phrases": {item.name: item.phrase for item in recipe.classes},
        "mask_use": "model",
        "mask_classes": [item.name for item in recipe.classes],
        "image_sha256": source.digest,
    }
    return Entry(row, picture, mask, own, draw.arrays() if keep_maps else None)


def troubles(store: Store) -> list[Row]:
    """The images that could not be read."""
    paths = sorted((store.root / "troubles").glob("[0-9]*.jsonl"))
    return [row for path in paths for row in read_json_lines(path)]


def overlays(store: Store, rows: list[Row]) -> Image.Image:
    """A contact sheet of images spread over the whole dataset."""
    chosen = rows[:: max(1, len(rows) // SHEET_IMAGES)][:SHEET_IMAGES]
    ids = store.classes()
    items = []
    for row in chosen:
        own = store.load_layers(row, len(ids))
        above = None if own is None else dict(zip(ids.values(), own, strict=True))
        stable = ", ".join(f"{name.replace('_', ' ')} {row['scores'][f'stability.{name}']:.2f}" for name in ids)
        items.append(Item(store.load_image(row), store.load_mask(row), above, row["key"], f"stability: {stable}"))
    return contact_sheet(items, columns=4, legend=ids, title=f"{len(rows)} images, labelled")
