"""A dataset of real images with simulated findings: exact masks, true captions, the same bytes for the same seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from cxrsynth.data.findings import FINDINGS, KIND_OF, PHRASES, CannotCarryError, Simulated, simulate
from cxrsynth.data.paths import refuse_overlap
from cxrsynth.domain.anatomy import CLASSES
from cxrsynth.domain.lexicon import MARKER, NORMAL, is_normal
from cxrsynth.encoding import dumps
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.factory.before_after import Pair, before_after
from cxrsynth.factory.carriers import Carriers, lungs_from
from cxrsynth.factory.simulation import MOST, Simulation
from cxrsynth.lock import writing
from cxrsynth.pages.sheet import save
from cxrsynth.records import STREAM_FINDING, Entry, Row, rng
from cxrsynth.store import Store

SHARD = 32
SHEET_IMAGES = 12
# What an image's row keeps of its carrier's.
KEPT = (
    "source",
    "licence",
    "use",
    "view",
    "sex",
    "age",
    "population",
    "patient",
    "split",
    "aspect",
    "squashed",
    "mask_use",
)


@dataclass(slots=True)
class Result:
    """What became of it.

    Attributes:
        out: the dataset.
        planned: images asked for.
        made: images in the dataset, those of earlier runs included.
        skipped: images that were there already.
        carriers: real images that could carry something.
        rejected: reason -> attempts.
    """

    out: str
    planned: int
    made: int = 0
    skipped: int = 0
    carriers: int = 0
    rejected: dict[str, int] = field(default_factory=dict)


def simulate_dataset(
    carriers: Carriers,
    out: Path,
    simulation: Simulation,
    count: int,
    on_images: Callable[[int], None] = lambda images: None,
) -> Result:
    """Write ``count`` images; the same command again goes on where it stopped, a larger count extends.

    Args:
        on_images: called with the number of images after every shard.

    Raises:
        UsageError: as `Simulation.check`; no carrier is without the finding; ``out`` holds the carriers themselves.
        MismatchError: ``out`` holds something else.
    """
    simulation.check()
    if not 1 <= count <= MOST:
        raise UsageError(f"{count} images were asked for; 1 to {MOST:,} can be", "for example -n 200")
    refuse_overlap(carriers.store.root, out, around=True)
    # A carrier is without every finding that has a layer: an empty layer means that there is none.
    eligible = carriers.without(simulation.classes)
    if not eligible:
        raise UsageError(
            f"no image of {carriers.store.root} is known to be without {' and '.join(simulation.classes)}",
            "give images whose findings are stated, normal ones at best, or ask for fewer findings",
        )
    identity = {
        "simulate": simulation.model_dump(mode="json"),
        "findings": {
            name: FINDINGS[name](**values).model_dump(mode="json") for name, values in simulation.placed().items()
        },
        "carriers": carriers.digest,
    }
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    held = out / "identity.json"
    if held.exists() and Store(held.parent).identity()["fingerprint"] != fingerprint:
        raise MismatchError(f"{out} holds another dataset", "choose another folder with -o")
    store = Store(out)
    shards = [range(start, min(start + SHARD, count)) for start in range(0, count, SHARD)]
    result = Result(str(out), count, carriers=len(eligible))
    with writing(out):
        claim(store, simulation, count, fingerprint, identity)
        for number, indices in enumerate(shards):
            planned = [key(index) for index in indices]
            if store.is_done(number, fingerprint, planned):
                result.skipped += len(planned)
            else:
                entries, rejected = make(indices, carriers, eligible, simulation)
                store.write_shard(number, entries, fingerprint=fingerprint, planned=planned, rejected=rejected)
            on_images(len(planned))
        for receipt in store.receipts():
            result.made += len(receipt.keys)
            for reason, times in receipt.rejects.items():
                result.rejected[reason] = result.rejected.get(reason, 0) + times
        rows = list(store.rows())
        store.write("summary.json", dumps({"planned": count, "kept": len(rows), "rejected": result.rejected}))
        if rows:
            save(sheet(store, rows, carriers), out / "before-after.png")
    return result


def make(
    indices: range, carriers: Carriers, eligible: list[int], simulation: Simulation
) -> tuple[list[Entry], list[tuple[Row, np.ndarray]]]:
    """The images of a shard, and every carrier that was tried and could not carry.

    An image depends on its index and attempt alone, not on its neighbours.
    """
    entries: list[Entry] = []
    rejected: list[tuple[Row, np.ndarray]] = []
    combinations, settings = simulation.combinations, simulation.placed()
    for index in indices:
        # What is put in belongs to the image and stays when another carrier is tried.
        first = rng(simulation.seed, index, STREAM_FINDING)
        kinds, empty = combinations[int(first.integers(len(combinations)))], first.random() < simulation.none
        for attempt in range(simulation.attempts):
            drawn = rng(simulation.seed, index, STREAM_FINDING, attempt + 1)
            row = carriers.rows[eligible[int(drawn.integers(len(eligible)))]]
            image, labels = carriers.load(row)
            try:
                made = simulate(image, labels, drawn, [] if empty else kinds, settings)
            except CannotCarryError as error:
                refused = {"key": key(index), "attempt": attempt, "carrier": row["key"], "why": error.why}
                rejected.append(({**refused, "reason": f"carrier.{error.finding}"}, image))
                continue
            entries.append(entry(index, attempt, row, made, simulation))
            break
    return entries, rejected


def entry(index: int, attempt: int, carrier: Row, made: Simulated, simulation: Simulation) -> Entry:
    """One image as it goes to disk; its row says what is simulated, in what, and where the lungs came from."""
    names = [*CLASSES, *simulation.classes]
    layers = np.stack(
        [
            *(made.labels == number for number in CLASSES.values()),
            *(made.masks.get(name, np.zeros(made.labels.shape, bool)) for name in simulation.classes),
        ]
    )
    row: Row = {
        **{name: carrier[name] for name in KEPT if name in carrier},
        "key": key(index),
        "index": index,
        "attempt": attempt,
        "seed": simulation.seed,
        "prompt": caption(carrier, made),
        "findings": findings_of(carrier, made),
        "simulated": made.facts,
        "carrier": carrier["key"],
        "lungs_from": lungs_from(carrier),
        "mask_classes": names,
        "present": {name: bool(layer.any()) for name, layer in zip(names, layers, strict=True)},
        "phrases": {name: name.replace("_", " ") if name in CLASSES else PHRASES[name] for name in names},
    }
    return Entry(row, made.image, painted(made, simulation), layers)


def painted(made: Simulated, simulation: Simulation) -> np.ndarray:
    """(H, W) uint8 ids: findings over the anatomy; an enlarged heart stays a heart, its own layer says the rest."""
    mask = made.labels.copy()
    for place, name in enumerate(simulation.classes, start=len(CLASSES) + 1):
        if name in made.masks and name != "cardiomegaly":
            mask[made.masks[name]] = place
    return mask


def findings_of(carrier: Row, made: Simulated) -> str:
    """The findings of the row: what was put in, and what the carrier was known for."""
    return said(str(carrier.get("findings") or ""), made) or "no finding"


def caption(carrier: Row, made: Simulated) -> str:
    """The carrier's caption with the findings of this image in it."""
    before, marker, own = str(carrier.get("prompt") or "Frontal chest X-ray.").partition(MARKER)
    return f"{before.strip()} {MARKER} {said(own if marker else '', made) or NORMAL[0]}."


def said(own: str, made: Simulated) -> str:
    """Words on findings that stay true, and those for what was put in."""
    parts = [part.strip() for part in own.strip().rstrip(".").split(",")]
    if "cardiomegaly" in made.clauses:
        parts = [part for part in parts if "heart" not in part and "cardiothoracic" not in part]
    kept = [part for part in parts if part and not is_normal(part)]
    return ", ".join([*kept, made.words] if made.clauses else kept)


def claim(store: Store, simulation: Simulation, count: int, fingerprint: str, identity: dict[str, Any]) -> None:
    """Write what the folder is for: identity, recipe, classes."""
    classes = [
        {"name": name, "id": number, "phrase": name.replace("_", " "), "overlap": False}
        for name, number in CLASSES.items()
    ] + [
        {"name": name, "id": len(CLASSES) + 1 + place, "phrase": PHRASES[name], "overlap": True}
        for place, name in enumerate(simulation.classes)
    ]
    store.write("identity.json", dumps({"fingerprint": fingerprint, "identity": identity}))
    recipe = {
        "name": store.root.resolve().name,
        "seed": simulation.seed,
        "count": count,
        "shard": SHARD,
        "simulate": simulation.model_dump(mode="json"),
        "classes": classes,
        "card": {
            "title": "Chest X-rays with simulated findings",
            "description": "Real radiographs. The findings were put in by a simulator and belong to no patient.",
            "licence": "",
            "citation": "",
        },
    }
    head = f"# Written by cxrsynth simulate: every default filled in. Fingerprint {fingerprint[:12]}.\n"
    store.write("recipe.yaml", (head + yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=120)).encode())
    store.write("classes.json", dumps({"background": 0, "ignore": 255, "classes": classes}))


def key(index: int) -> str:
    """File stem of an image."""
    return f"{index:09d}"


def sheet(store: Store, rows: list[Row], carriers: Carriers) -> Image.Image:
    """Images spread over the dataset before and after, with the masks of what was put in."""
    ids = store.classes()
    where = {row["key"]: row for row in carriers.rows}
    pairs = []
    for row in rows[:: max(1, len(rows) // SHEET_IMAGES)][:SHEET_IMAGES]:
        layers = store.load_layers(row, len(ids))
        assert layers is not None  # `entry` writes them for every image
        put = {*row["simulated"], *(KIND_OF.get(name, name) for name in row["simulated"])}
        shown = {number: layer for (name, number), layer in zip(ids.items(), layers, strict=True) if name in put}
        before = carriers.store.load_image(where[row["carrier"]])
        pairs.append(Pair(before, store.load_image(row), shown, str(row["findings"])))
    return before_after(pairs)
