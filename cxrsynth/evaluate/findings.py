"""Where words for findings look on real images, against the boxes of radiologists.

Nothing may be trained or tuned on these images. They are halved by patient: look at the working half while you work,
and report the other one once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from cxrsynth.data.boxes import READERS, READINGS, boxes_of, fill, zone_of
from cxrsynth.data.dataset import rows as read_rows
from cxrsynth.data.findings import PHRASES
from cxrsynth.data.patients import patient_id
from cxrsynth.domain.anatomy import CLASSES
from cxrsynth.domain.regions import body, resolve
from cxrsynth.errors import UsageError
from cxrsynth.evaluate.pointing import METRICS, chance, figures
from cxrsynth.evaluate.results import Record, record
from cxrsynth.masks.walk import resize
from cxrsynth.nets.attention import observe_cross
from cxrsynth.nets.autoencoder import encode
from cxrsynth.nets.bundle import Pipeline
from cxrsynth.nets.segmenter import Segmenter, squash
from cxrsynth.nets.taps import KeySource, Taps, column_weights, merge_levels, token_columns
from cxrsynth.nets.text import ids
from cxrsynth.statistics import bootstrap
from cxrsynth.store import Row, Store

Half = Literal["working", "reporting", "both"]
CONTROLS = ("dog", "no abnormality")  # words that should look nowhere in particular
LEVELS = (1, 2)
TIMESTEPS = (100, 250, 400)
BATCH = 4
CHANCE = "chance"
OnImage = Callable[[int, int], None]
# A phrase or class -> (N, H, W) float maps of the images in a list.
Maps = dict[str, list[np.ndarray]]
# Rows and (H, W) uint8 images of one batch -> maps of every phrase, at the size of the images.
Read = Callable[[list[Row], list[np.ndarray]], Maps]


@dataclass(frozen=True, slots=True)
class Case:
    """One image with the place of one finding.

    Attributes:
        row: of the image.
        reader: whose boxes.
        finding: which finding.
        target: (H, W) bool, its boxes filled.
        region: (H, W) bool, where the map counts.
    """

    row: Row
    reader: str
    finding: str
    target: np.ndarray
    region: np.ndarray


def half_of(patient: str) -> Half:
    """The half a patient belongs to, by a hash: it stays the same whatever else is in the dataset."""
    return "working" if hashlib.sha256(patient.encode()).digest()[0] % 2 == 0 else "reporting"


def cases(
    data: Path, half: Half = "working", readers: Sequence[str] = READERS, lungs: Path | None = None
) -> list[Case]:
    """All images in which somebody said where a finding is.

    Args:
        data: images that `cxrsynth ingest` wrote, with their boxes.
        readers: of `READERS`; `READINGS` takes the zone that a reading of tuberculosis names.
        lungs: a dataset with masks of the same images: figures count within the hull of lungs and heart. Without, the
            whole image counts.

    Raises:
        UsageError: no image has a box, or ``lungs`` lacks one of them.
    """
    store, found = Store(data), []
    if READINGS in readers and lungs is None:
        raise UsageError("a zone in words needs masks of the lungs", "add --lungs: cxrsynth annotate makes them")
    masks = _masks(lungs) if lungs is not None else None
    for row in read_rows(data):
        if half != "both" and half_of(str(row.get("patient") or row["key"])) != half:
            continue
        boxes = [box for box in boxes_of(row) if box.reader in readers] if _boxed(row, readers) else []
        zone = zone_of(row) if READINGS in readers else ""
        if not boxes and not zone:
            continue
        shape = store.load_image(row).shape
        mask = masks(row["key"], shape) if masks is not None else None
        region = np.ones(shape, bool) if mask is None else body(mask)
        for reader, finding in sorted({(box.reader, box.finding) for box in boxes}):
            mine = [box for box in boxes if (box.reader, box.finding) == (reader, finding)]
            found.append(Case(row, reader, finding, fill(mine, shape), region))
        if zone and mask is not None:
            found.append(Case(row, READINGS, "tuberculosis", resolve(zone, mask), region))
    if not found:
        raise UsageError(
            f"no image of {data} has the place of a finding from {' or '.join(readers)} in the {half} half",
            "ingest a collection whose table has boxes_nih or boxes_rsna, or choose another --half",
        )
    return found


def _boxed(row: Row, readers: Sequence[str]) -> bool:
    return any(row.get(f"boxes_{reader}") for reader in readers)


def _masks(lungs: Path) -> Callable[[str, tuple[int, ...]], np.ndarray]:
    """Key and shape of an image -> (H, W) uint8 ids of `cxrsynth.domain.anatomy.CLASSES`."""
    store = Store(lungs)
    ids = store.classes()
    held = {row["key"]: row for row in store.rows() if row.get("mask")}

    def load(key: str, shape: tuple[int, ...]) -> np.ndarray:
        if key not in held:
            raise UsageError(f"{lungs} has no mask of {key}", "annotate the same images")
        stored = store.load_mask(held[key])
        assert stored is not None  # rows without a mask were left out
        if stored.shape != shape:
            raise UsageError(f"the mask of {key} is {stored.shape}, the image {shape}", "annotate the same images")
        mask = np.zeros_like(stored)
        for name, number in CLASSES.items():
            if name in ids:
                mask[stored == ids[name]] = number
        return mask

    return load


def measure(
    data: Path, chosen: Sequence[Case], read: Read, on_image: OnImage = lambda done, total: None
) -> list[dict[str, float]]:
    """Figures of every case: ``"<phrase>|<metric>"`` -> value, chance among the phrases.

    Args:
        read: see `Read`.
    """
    store = Store(data)
    keys = list(dict.fromkeys(case.row["key"] for case in chosen))
    rows = {case.row["key"]: case.row for case in chosen}
    found: dict[int, dict[str, float]] = {}
    for start in range(0, len(keys), BATCH):
        part = keys[start : start + BATCH]
        maps = read([rows[key] for key in part], [store.load_image(rows[key]) for key in part])
        for place, case in enumerate(chosen):
            if case.row["key"] not in part:
                continue
            number = part.index(case.row["key"])
            values = {f"{CHANCE}|{name}": value for name, value in chance(case.target, case.region).items()}
            for phrase, drawn in maps.items():
                fitted = figures(drawn[number], case.target, case.region)
                values |= {f"{phrase}|{name}": value for name, value in fitted.items()}
            found[place] = values
        on_image(min(start + BATCH, len(keys)), len(keys))
    return [found[place] for place in range(len(chosen))]


def attention(
    model: Path,
    phrases: Sequence[str],
    against: str = "",
    timesteps: Sequence[int] = TIMESTEPS,
    seed: int = 0,
    device: str = "cpu",
) -> Read:
    """A reader of a diffusion model's cross-attention: every phrase from a text of its own.

    Args:
        against: a phrase that stands in every text; a map is then the phrase's share of the two, so that it says how
            much more the phrase looks at a place than nothing particular does.
        timesteps: how much noise is added; the maps of all are averaged.
    """
    whole: Pipeline = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32).to(device)
    size = int(whole.unet.config.sample_size) * 2 ** (len(whole.vae.config.block_out_channels) - 1)
    texts = [f"{phrase}, {against}" if against else phrase for phrase in phrases]
    sources = []
    for place, (phrase, text) in enumerate(zip(phrases, texts, strict=True)):
        context = whole.text_encoder(ids(whole.tokenizer, [text]).to(device)).last_hidden_state
        columns: list[list[int]] = [[] for _ in range(2 * len(phrases))]
        columns[place], columns[len(phrases) + place] = token_columns(whole.tokenizer, text, [phrase, against or "?"])
        sources.append(KeySource(context, column_weights(columns, context.shape[1]).to(device)))
    empty = whole.text_encoder(ids(whole.tokenizer, [""]).to(device)).last_hidden_state

    @torch.inference_mode()
    def read(rows: list[Row], images: list[np.ndarray]) -> Maps:
        latents = encode(whole.vae, np.stack([squash(image, size) for image in images])).to(device)
        taps = Taps(sources, (latents.shape[-2], latents.shape[-1]), slice(None), LEVELS)
        noise = np.stack([_noise(seed, row["key"], latents.shape[1:]) for row in rows])
        with observe_cross(whole.unet, taps):
            for t in timesteps:
                step = torch.full((len(latents),), t, device=device)
                noisy = whole.scheduler.add_noise(latents, torch.from_numpy(noise).to(device), step)
                whole.unet(noisy, step, empty.expand(len(noisy), -1, -1))
        maps = merge_levels(taps.maps(), normalise=False).cpu().numpy()  # (B, 2K, h, w)
        own, other = maps[:, : len(phrases)], maps[:, len(phrases) :]
        shares = own / np.maximum(own + other, 1e-12) if against else own
        return {
            phrase: [resize(shares[i, place], *images[i].shape) for i in range(len(images))]
            for place, phrase in enumerate(phrases)
        }

    return read


def _noise(seed: int, key: str, shape: Sequence[int]) -> np.ndarray:
    """The noise of an image, by its key: it does not depend on what is read beside it."""
    number = int.from_bytes(hashlib.sha256(f"{seed} {key}".encode()).digest()[:8], "big")
    return np.random.default_rng(number).standard_normal(tuple(shape), np.float32)


def stored(predicted: Path, classes: Sequence[str]) -> Read:
    """A reader of a dataset with maps, layers or masks of the same images, whichever says most.

    Raises:
        UsageError: a class or an image is missing there.
    """
    store = Store(predicted)
    known = store.classes()
    missing = [name for name in classes if name not in known]
    if missing:
        raise UsageError(f"{predicted} has no class '{missing[0]}'", f"it has: {', '.join(known)}")
    held = {row["key"]: row for row in store.rows()}

    def one(row: Row, shape: tuple[int, ...]) -> Iterator[tuple[str, np.ndarray]]:
        if row["key"] not in held:
            raise UsageError(f"{predicted} has nothing of {row['key']}", "predict the same images")
        mine = held[row["key"]]
        maps, layers, mask = store.load_maps(mine), store.load_layers(mine, len(known)), store.load_mask(mine)
        for place, (name, number) in enumerate(known.items()):
            if name not in classes:
                continue
            if maps is not None and "maps" in maps:
                yield name, resize(maps["maps"][place].astype(np.float32), *shape)
            elif layers is not None:
                yield name, layers[place].astype(np.float32)
            elif mask is not None:
                yield name, (mask == number).astype(np.float32)

    def read(rows: list[Row], images: list[np.ndarray]) -> Maps:
        found: Maps = {name: [] for name in classes}
        for row, image in zip(rows, images, strict=True):
            for name, drawn in one(row, image.shape):
                found[name].append(drawn)
        return found

    return read


def segmented(segmenter: Segmenter, classes: Sequence[str]) -> Read:
    """A reader of a segmentation network's probabilities.

    Raises:
        UsageError: the network does not know a class.
    """
    missing = [name for name in classes if name not in segmenter.classes]
    if missing:
        raise UsageError(f"the network knows no class '{missing[0]}'", f"it knows: {', '.join(segmenter.classes)}")

    @torch.inference_mode()
    def read(rows: list[Row], images: list[np.ndarray]) -> Maps:
        small = np.stack([squash(image, segmenter.size) for image in images])[:, None].astype(np.float32) / 255
        prob = segmenter.network(torch.from_numpy(small).to(segmenter.device)).float().softmax(dim=1).cpu().numpy()
        return {
            name: [resize(prob[i, 1 + segmenter.classes.index(name)], *image.shape) for i, image in enumerate(images)]
            for name in classes
        }

    return read


def phrases_for(findings: Sequence[str]) -> list[str]:
    """The phrase of every finding, "opacity" beside those that the simulator does not know, and the controls."""
    own = [PHRASES.get(name, name.replace("_", " ")) for name in findings]
    also = [PHRASES["opacity"]] if any(name not in PHRASES for name in findings) else []
    return list(dict.fromkeys([*own, *also, *CONTROLS]))


def records(
    chosen: Sequence[Case], values: Sequence[Mapping[str, float]], name: str, data: str, half: Half, seed: int = 0
) -> list[Record]:
    """Per reader, finding and phrase every figure with its interval by patient, chance, and what a phrase has over the
    best control.
    """
    found: list[Record] = []
    phrases = list(dict.fromkeys(key.rpartition("|")[0] for one in values for key in one))
    controls = [phrase for phrase in phrases if phrase in CONTROLS]
    for reader, finding in sorted({(case.reader, case.finding) for case in chosen}):
        mine = [i for i, case in enumerate(chosen) if (case.reader, case.finding) == (reader, finding)]
        patients = [patient_id(chosen[i].row) for i in mine]
        dataset = f"{data}:{reader}:{half}"
        for metric in METRICS:
            columns = {phrase: np.array([values[i][f"{phrase}|{metric}"] for i in mine]) for phrase in phrases}
            for phrase, column in columns.items():
                arm = f"{name}: {phrase}" if phrase != CHANCE else CHANCE
                known = int((~np.isnan(column)).sum())
                if known:
                    interval = bootstrap(column, patients, seed=seed)
                    found.append(record("lesions", arm, dataset, metric, interval, known, finding, [seed]))
            if not controls:
                continue
            best = max(controls, key=lambda phrase: float(np.nanmean(columns[phrase])))
            for phrase, column in columns.items():
                if phrase not in (CHANCE, *controls):
                    over = bootstrap(column - columns[best], patients, seed=seed)
                    arm = f"{name}: {phrase} - {best}"
                    found.append(record("lesions", arm, dataset, metric, over, len(mine), finding, [seed]))
    return found
