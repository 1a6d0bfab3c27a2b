"""The benchmark of findings on a handful of chests made of label maps, under a minute: does every part still work?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.findings.__main__ import run
from benchmarks.findings.bench import Bench
from benchmarks.findings.settings import Settings
from cxrsynth.domain.anatomy import CLASSES
from cxrsynth.domain.atlas import open_atlas
from cxrsynth.encoding import dumps
from cxrsynth.records import Entry, Row
from cxrsynth.store import Store

IMAGES = 16
SETTINGS = Settings.model_validate(
    {
        "simulation": {"findings": ["opacity", "effusion"], "none": 0.3},
        "simulated": 12,
        "generate": "phantom-findings",
        "generate_set": ["sampler.height=64", "sampler.width=64", "split={train: 0.6, val: 0.4}"],
        "generated": 12,
        "control": {"effusion": "right costophrenic angle"},
        "control_set": ["sampler.num_inference_steps=4", "sampler.batch=2"],
        "controlled": 2,
        "boxes": 1,
        "shown": 2,
        "detector": ["opacity", "effusion"],
        "train": {
            "encoder": "resnet18",
            "options": {"encoder_depth": 3, "decoder_channels": [16, 16, 8]},
            "size": 64,
            "updates": 3,
            "batch": 2,
        },
    }
)
# Parts, each by one of its figures: (arm, metric).
PARTS = (
    ("mini: opacity", "pointing"),
    ("mini against no finding: opacity", "pointing"),
    ("simulated", "pointing"),
    ("generated+boxes", "pointing"),
    ("simulated", "image_auroc"),
    ("detector", "asked_and_there"),
    ("detector", "not_asked_and_absent"),
    ("effusion", "change_inside"),
    ("asked for and there", "target"),
)


def chests(root: Path) -> Path:
    """Real images as `cxrsynth ingest` writes them: one half normal, one with a box or a reading."""
    if (root / "shards").exists():
        return root
    store, atlas = Store(root), open_atlas("wingspan")
    listed = [{"id": number, "name": name, "phrase": name.replace("_", " ")} for name, number in CLASSES.items()]
    entries = []
    for number in range(IMAGES):
        mask = atlas.load(atlas.keys[number])
        grain = np.random.default_rng(number).normal(0, 6, mask.shape)
        image = np.choose(mask, [170.0, 80.0, 84.0, 200.0]) + grain
        sick = number % 2 == 1
        rows, columns = np.nonzero(mask == CLASSES["left_lung"])
        box = ["rsna:lung_opacity", int(columns.min()), int(rows.min()), 60, 80]
        row: Row = {
            "key": f"image-{number}", "prompt": "Frontal chest X-ray, PA view.", "source": "clinic",
            "findings": "pneumonia" if sick else "no finding", "patient": f"p{number}", "use": "open",
            "split": ("train", "train", "val", "val")[number % 4], "licence": "CC0-1.0", "mask_use": "train",
            "mask_classes": list(CLASSES), "content_box": [0, 0, mask.shape[1], mask.shape[0]], "boxes_nih": "",
            "boxes_rsna": json.dumps([box]) if sick else "",
        }  # fmt: skip
        entries.append(Entry(row, image.clip(0, 255).astype(np.uint8), mask))
    store.write("classes.json", dumps({"background": 0, "ignore": 255, "classes": listed}))
    store.write_shard(0, entries, fingerprint="0" * 64, planned=[entry.row["key"] for entry in entries])
    return root


def check(out: Path) -> list[str]:
    """Run it twice: every part has its figure, all lie where they can, and the second run measures nothing anew.

    Returns:
        What is wrong.
    """
    bench = Bench(SETTINGS, chests(out / "real"), out / "made", half="reporting", device="cpu", labellers=0)
    records = run(bench)
    there = {(one["arm"], one["metric"]) for one in records}
    wrong = [f"findings: no {metric} of {arm}" for arm, metric in PARTS if (arm, metric) not in there]
    shares = ("pointing", "miou", "auroc", "image_auroc", "asked_and_there", "not_asked_and_absent")
    for one in records:
        if one["metric"] in shares and " - " not in one["arm"] and not 0 <= one["value"] <= 1:
            wrong.append(f"findings: {one['arm']} {one['metric']} is {one['value']}")
    sheets = sorted(path.name for path in (out / "made/blind/reporting").glob("*"))
    if sheets != sorted(f"{finding}{end}" for finding in SETTINGS.detector for end in (".key.json", ".png")):
        wrong.append(f"findings: the blind sheets are {sheets}")
    if run(bench) != records:
        wrong.append("findings: the second run does not give the figures of the first")
    return wrong
