"""The images of the benchmark: labelled, simulated, generated, controlled, and the few with boxes to learn from.

Everything here goes on where it stopped.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from benchmarks.findings.bench import Bench
from cxrsynth.console import meter
from cxrsynth.data.boxes import boxes_of
from cxrsynth.data.dataset import rows as read_rows
from cxrsynth.data.patients import patient_id
from cxrsynth.data.weak_masks import weak_mask
from cxrsynth.device import resolve
from cxrsynth.encoding import dumps, sha256
from cxrsynth.errors import UsageError
from cxrsynth.evaluate.lesions import in_half
from cxrsynth.factory.apply.segment import segment
from cxrsynth.factory.carriers import find
from cxrsynth.factory.plan import make_plan
from cxrsynth.factory.run import run
from cxrsynth.factory.simulate import simulate_dataset
from cxrsynth.lock import writing
from cxrsynth.nets.segmenter import load
from cxrsynth.recipe import load as load_recipe
from cxrsynth.records import Entry, Row
from cxrsynth.store import Store

OPACITY = "opacity"
BEFORE = "before"


def label(bench: Bench) -> None:
    """Lungs and heart of all real images, by a network."""
    if bench.segmenter is None:
        return
    with meter(1, "label lungs and heart") as bar:
        network = load(bench.segmenter, resolve(bench.device))
        segment(network, bench.data, bench.labelled, advance=lambda done, total: bar.set(done / total))


def few(bench: Bench) -> list[Row]:
    """The images of the patients whose boxes are learned from: of the working half, chosen by their names.

    Raises:
        UsageError: no patient of that half has a box.
    """
    boxed = [
        row
        for row in read_rows(bench.labelled)
        if in_half(row, "working") and any(box.reader == "rsna" and box.finding == OPACITY for box in boxes_of(row))
    ]
    names = {patient_id(row): str(row.get("patient") or row["key"]) for row in boxed}
    order = sorted(names, key=lambda one: hashlib.sha256(f"boxes {names[one]}".encode()).digest())
    chosen = set(order[: bench.settings.boxes])
    if not chosen:
        raise UsageError(f"no patient of the working half of {bench.data} has a box", "ingest images with boxes_rsna")
    return [row for row in boxed if patient_id(row) in chosen]


def boxes(bench: Bench) -> Path:
    """A dataset of the few: the middle of a box is opacity, the rest of it unknown, the image beyond without."""
    rows, root, store = few(bench), bench.out / "boxes", Store(bench.labelled)
    keys = [row["key"] for row in rows]
    fingerprint = sha256(dumps([keys, [row["boxes_rsna"] for row in rows]]))
    made = Store(root)
    if made.is_done(0, fingerprint, keys):
        return root
    entries = []
    for row in rows:
        image = store.load_image(row)
        mine = [box for box in boxes_of(row) if box.reader == "rsna" and box.finding == OPACITY]
        kept = {name: row[name] for name in ("key", "prompt", "source", "patient", "licence", "use") if name in row}
        told: Row = {"split": "train", "mask_classes": [OPACITY], "mask_use": "benchmark", "mask_by": "boxes"}
        entries.append(Entry({**kept, **told}, image, weak_mask(mine, (image.shape[0], image.shape[1]), 1)))
    with writing(root):
        listed = [{"id": 1, "name": OPACITY, "phrase": OPACITY}]
        made.write("classes.json", dumps({"background": 0, "ignore": 255, "classes": listed}))
        made.write_shard(0, entries, fingerprint=fingerprint, planned=keys)
    return root


def simulated(bench: Bench) -> Path:
    """Simulated findings in real images of the working half, of nobody whose boxes are learned from."""
    settings, root = bench.settings, bench.out / "simulated"
    boxed = {patient_id(row) for row in few(bench)}
    found = find(bench.labelled, ("train", "val"), settings.carriers)
    kept = tuple(row for row in found.rows if in_half(row, "working") and patient_id(row) not in boxed)
    with meter(settings.simulated, "simulate") as bar:
        simulate_dataset(replace(found, rows=kept), root, settings.simulation, settings.simulated, bar.advance)
    return root


def generated(bench: Bench) -> Path:
    """Findings that the model generated."""
    settings, root = bench.settings, bench.made / "generated"
    generate(bench, Path(settings.generate), root, settings.generated, settings.generate_set)
    return root


def controlled(bench: Bench) -> dict[str, Path]:
    """The same images without a finding (`BEFORE`), and with each: name -> folder."""
    settings, recipe = bench.settings, Path("bench/control")
    asked = {BEFORE: "control.pathology=[]"}
    for finding, region in settings.control.items():
        entry = f"{{finding: {finding}, region: {region}, severity: [0.4, 0.8], label: finding}}"
        asked[finding] = f"control.pathology=[{entry}]"
    for name, pathology in asked.items():
        changes = (*settings.control_set, pathology)
        generate(bench, recipe, bench.made / "control" / name, settings.controlled, changes)
    return {name: bench.made / "control" / name for name in asked}


def generate(bench: Bench, recipe: Path, root: Path, count: int, changes: tuple[str, ...]) -> None:
    """The images of a recipe by the model that is measured.

    Raises:
        UsageError: a shard could not be made.
    """
    loaded = load_recipe(recipe, {"count": count, "model": bench.settings.model}, list(changes))
    plan = make_plan(loaded, root, device=bench.device, offline=True)
    plan = replace(plan, job=replace(plan.job, labellers=bench.labellers))
    with meter(loaded.count, f"generate {root.name}") as bar:
        made = run(plan, engine_options={"workers": bench.workers}, advance=bar.advance)
    if made.failed:
        raise UsageError(f"{len(made.failed)} shards of {root} failed", f"see {root / 'failures'}")
