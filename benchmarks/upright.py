"""How surely are inverted, mirrored, upside-down and turned radiographs found, and how often is a good one touched?

    python -m benchmarks.upright ../shared/data                          # make bench-upright
    python -m benchmarks.upright ../shared/data --fit data/train256      # make upright: fit on the split train first

Judged are whole files, as users give them. 200 images of the split test, from every source, and all images of external
test sets are judged as they are (false alarms) and in every wrong state (found, missed, and put right the wrong way);
all images of all splits are judged as they are. It goes to results/upright.json.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import nn

from cxrsynth.data import upright
from cxrsynth.evaluate.results import record, write
from cxrsynth.files import write_atomic
from cxrsynth.ingest.collection import Collection
from cxrsynth.ingest.image import SourceImage, read_gray
from cxrsynth.statistics import bootstrap
from cxrsynth.store import Store

HIDDEN, STEPS, BATCH, SEED = 24, 3000, 64, 0
IMAGES = 200
KEPT = 48  # side of the images that are augmented before they become ranks
WEIGHTS = Path(upright.__file__).with_suffix(".npz")
STATES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda image: image,
    "inverted": lambda image: 255 - image,
    "mirrored": lambda image: image[:, ::-1],
    "upside down, mirrored": lambda image: image[::-1],
    "upside down": lambda image: image[::-1, ::-1],
    "on its side": np.rot90,
    "inverted and upside down": lambda image: 255 - image[::-1, ::-1],
}
FATES = ("left alone", "put right", "refused", "turned wrong")


def main(
    data: Annotated[Path, typer.Argument(help="Folder with metadata.csv, as ingest --layout collection reads it.")],
    fit: Annotated[Path | None, typer.Option("--fit", help="Ingested images to fit the weights on first.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="File of the results.")] = Path("results/upright.json"),
) -> None:
    """Fit and measure."""
    if fit is not None:
        write_atomic(WEIGHTS, fitted(fit))
        upright.weights.cache_clear()
    images = list(Collection(data, benchmark=True).images())
    ours = [image for image in images if image.row["use"] != "test"]
    records = measure(chosen(ours), STATES, "held-out")
    for source in sorted({image.row["source"] for image in images if image.row["use"] == "test"}):
        records += measure([image for image in images if image.row["source"] == source], STATES, source)
    records += measure(ours, {"as it is": STATES["as it is"]}, "all-splits")
    for one in records:
        one["command"] = f"python -m benchmarks.upright {' '.join(sys.argv[1:])}"
        print(
            f"{one['dataset']:10} {one['arm']:25} {one['class']:18} {one['metric']:13} {one['value']:.3f} of {one['n']}"
        )
    write(out, records)


def fitted(data: Path) -> bytes:
    """Weights from the split ``train``, sources weighted by the root of their size, as the bytes of an ``.npz``."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    store = Store(data)
    rows = [row for row in store.rows() if row["split"] == "train" and row.get("use") != "test"]
    images = np.stack([reduced(store.load_image(row)) for row in rows])  # (N, KEPT, KEPT)
    sources = np.array([row["source"] for row in rows])
    share = np.array([1 / np.sqrt((sources == source).sum()) for source in sources])
    net = nn.Sequential(nn.Linear(upright.SIDE**2, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1, bias=False))
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=STEPS)
    target = torch.zeros(BATCH, dtype=torch.long)
    for step in range(STEPS):
        picked = images[rng.choice(len(images), BATCH, p=share / share.sum())]
        ranked = np.stack([upright.ranks(upright.shrink(one)) for one in augmented(picked, rng)])
        views = np.stack(upright.orbit(ranked), axis=1)  # (BATCH, 16, SIDE, SIDE)
        scores = net(torch.from_numpy(views.astype(np.float32)).flatten(2))[..., 0]  # (BATCH, 16)
        loss = nn.functional.cross_entropy(scores, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 300 == 0:
            print(f"step {step}: loss {loss.item():.3f}", file=sys.stderr, flush=True)
    first, bias, second = (value.detach().numpy().astype(np.float16) for value in net.parameters())
    buffer = io.BytesIO()
    np.savez_compressed(buffer, first=first.T, bias=bias, second=second[0])
    return buffer.getvalue()


def reduced(image: np.ndarray) -> np.ndarray:
    """(H, W) -> (KEPT, KEPT) float32."""
    small = upright.Image.fromarray(image).resize((KEPT, KEPT), upright.Image.Resampling.BOX)
    return np.asarray(small, np.float32)


def augmented(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, S, S) float32 -> the same, moved, turned by a few degrees, with black borders or cut, in another tone."""
    count = len(images)
    angle = rng.normal(0, 0.08, count)
    zoom = 1 + rng.normal(0, 0.08, count) + np.where(rng.random(count) < 0.25, rng.uniform(0, 0.3, count), 0)
    wide = zoom * (1 + rng.normal(0, 0.06, count))
    matrix = np.zeros((count, 2, 3), np.float32)
    matrix[:, 0, 0], matrix[:, 0, 1] = wide * np.cos(angle), -zoom * np.sin(angle)
    matrix[:, 1, 0], matrix[:, 1, 1] = wide * np.sin(angle), zoom * np.cos(angle)
    matrix[:, :, 2] = rng.normal(0, 0.07, (count, 2))
    batch = torch.from_numpy(images)[:, None]
    grid = nn.functional.affine_grid(torch.from_numpy(matrix), list(batch.shape), align_corners=False)
    beyond = "zeros" if rng.random() < 0.5 else "border"
    moved: np.ndarray = nn.functional.grid_sample(batch, grid, padding_mode=beyond, align_corners=False)[:, 0].numpy()
    return moved


def chosen(images: Sequence[SourceImage]) -> list[SourceImage]:
    """At most `IMAGES` of the split ``test``: all of the small sources, and as many of each of the others."""
    by_source: dict[str, list[SourceImage]] = {}
    for image in images:
        if image.row["split"] == "test":
            by_source.setdefault(image.row["source"], []).append(image)
    left: int = IMAGES
    picked: list[SourceImage] = []
    for number, found in enumerate(sorted(by_source.values(), key=len)):
        count = min(len(found), left // (len(by_source) - number))
        picked += [found[i * len(found) // count] for i in range(count)]
        left -= count
    return picked


def measure(
    images: Sequence[SourceImage], states: dict[str, Callable[[np.ndarray], np.ndarray]], dataset: str
) -> list[dict[str, Any]]:
    """What becomes of every image in every state, with intervals over patients."""
    fates: dict[str, list[str]] = {state: [] for state in states}
    for image in images:
        pixels = read_gray(image.path)[0]
        for state, spoil in states.items():
            fates[state].append(fate(pixels, np.ascontiguousarray(spoil(pixels))))
    sources = [image.row["source"] for image in images]
    patients = [f"{image.row['source']}/{image.row['patient']}" for image in images]
    records = []
    for state, found in fates.items():
        for source in ("all", *sorted(set(sources))) if len(set(sources)) > 1 else ("all",):
            own = [i for i, name in enumerate(sources) if source in ("all", name)]
            for metric in FATES:
                values = np.array([found[i] == metric for i in own], float)
                figures = bootstrap(values, [patients[i] for i in own])
                records.append(record("upright", state, dataset, metric, figures, len(own), source, (SEED,)))
    return records


def fate(image: np.ndarray, spoilt: np.ndarray) -> str:
    """Whether a spoilt image is left alone, put right, refused, or turned into another wrong state."""
    verdict = upright.judge(spoilt)
    if verdict.refused:
        return "refused"
    if not verdict.turn:
        return "left alone"
    # Inverting about the image's own extremes moves all tones by the same amount.
    turned = verdict.turn(spoilt.astype(np.float32))
    same = turned.shape == image.shape and np.ptp(turned - image.astype(np.float32)) < 1
    return "put right" if same else "turned wrong"


if __name__ == "__main__":
    typer.run(main)
