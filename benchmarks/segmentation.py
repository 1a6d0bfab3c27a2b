"""Training throughput and memory against a plain loop over smp, written without this package.

    python -m benchmarks.segmentation            # U-Net, resnet18, 192 px, batches of 8

The plain loop reads the same files, augments alike, and does forward, Dice and cross-entropy, backward and AdamW in
bfloat16; it has no average of weights, no checkpoint and no checks. One of its updates follows each of ours in the
same process, and the median of the ratios is given: the machine's speed drifts. Memory is that of a process that runs
one of the two alone. Writes results/train.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A
import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from PIL import Image

from cxrsynth.data.labelled import Source
from cxrsynth.device import peak_memory
from cxrsynth.evaluate.results import record, write
from cxrsynth.train.tasks.segment.config import SegmentConfig
from cxrsynth.train.tasks.segment.training import train_segmenter
from tests.train.chests import make

CONFIG = SegmentConfig(encoder="resnet18", size=192, batch=8, look_every=10**6, patience=0, checkpoint_minutes=99)
WARM = 3


def plain_loop(root: Path, device: torch.device) -> Callable[[], None]:
    """One update per call."""
    cv2.setNumThreads(0)
    paths = sorted((root / "images").rglob("*.png"))
    network = smp.Unet("resnet18", encoder_weights=None, in_channels=1, classes=4).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    dice = smp.losses.DiceLoss("multiclass", ignore_index=255)
    change = A.Compose(
        [
            A.Affine(scale=(0.9, 1.1), translate_percent=0.06, rotate=(-8, 8), fill_mask=255, p=0.8),
            A.RandomGamma(p=0.5),
            A.RandomBrightnessContrast(p=0.5),
            A.GaussNoise(std_range=(0.0, 0.03), p=0.5),
        ]
    )
    rng = np.random.default_rng(0)

    def update() -> None:
        images, masks = [], []
        for i in rng.integers(len(paths), size=CONFIG.batch):
            mask = np.asarray(Image.open(str(paths[i]).replace("/images/", "/masks/")))
            changed = change(image=np.asarray(Image.open(paths[i])), mask=mask)
            images.append(changed["image"])
            masks.append(changed["mask"])
        x = torch.from_numpy(np.stack(images)[:, None].astype(np.float32) / 255).to(device)
        y = torch.from_numpy(np.stack(masks).astype(np.int64)).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            logits = network(x)
        loss = dice(logits.float(), y) + F.cross_entropy(logits.float(), y, ignore_index=255)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()

    return update


def alone(which: str, root: Path) -> float:
    """Peak memory of a process that runs five updates of one of the two."""
    command = [sys.executable, "-m", "benchmarks.segmentation", "--alone", which, "--data", str(root)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run_alone(which: str, root: Path) -> None:
    """Five updates, then print the peak."""
    if which == "plain":
        update = plain_loop(root, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        for _ in range(5):
            update()
    else:
        with tempfile.TemporaryDirectory() as run:
            train_segmenter([Source(root)], Path(run), CONFIG.model_copy(update={"updates": 5}))
    print(peak_memory(torch.device("cuda" if torch.cuda.is_available() else "cpu")))


def main() -> None:
    """Measure and write the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("results/train.json"))
    parser.add_argument("--alone", choices=("ours", "plain"))
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    if options.alone:
        return run_alone(options.alone, options.data)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ours: list[float] = []
    plain: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        root = make(Path(folder) / "chests", splits="t" * 32 + "v", size=CONFIG.size, per_shard=16)
        update = plain_loop(root, device)
        last = 0.0

        def on_step(done: int, total: int, values: dict[str, float]) -> None:
            nonlocal last
            middle = time.perf_counter()
            update()
            # The last update of ours also validates.
            if WARM < done < total:
                ours.append(middle - last)
                plain.append(time.perf_counter() - middle)
            last = time.perf_counter()

        config = CONFIG.model_copy(update={"updates": options.updates})
        train_segmenter([Source(root)], Path(folder) / "run", config, on_step=on_step)
        memory = {which: alone(which, root) for which in ("ours", "plain")}
    ratios = [theirs / mine for theirs, mine in zip(plain, ours, strict=True)]
    rng = np.random.default_rng(0)
    draws = [float(np.median(rng.choice(ratios, len(ratios)))) for _ in range(2000)]
    low, high = np.percentile(draws, (2.5, 97.5))
    figures = (statistics.median(ratios), float(low), float(high))
    name, n = "unet resnet18, 192 px, batch 8", len(ratios)
    records = [record("train", "ours / plain smp loop", name, "throughput_ratio", figures, n)]
    for arm, seconds in (("ours", ours), ("plain smp loop", plain)):
        speed = CONFIG.batch / statistics.median(seconds)
        records.append(record("train", arm, name, "images_per_s", (speed, speed, speed), n))
    for arm, value in (("ours", memory["ours"]), ("plain smp loop", memory["plain"])):
        records.append(record("train", arm, name, "peak_mib", (value, value, value), 1))
    for item in records:
        if item["metric"] != "throughput_ratio":
            item["lo"] = item["hi"] = None  # one figure of this machine and this hour
        item["command"] = "python -m benchmarks.segmentation"
    write(options.out, records)
    print(
        json.dumps(
            [{key: item[key] for key in ("arm", "metric", "value", "lo", "hi", "n")} for item in records], indent=2
        )
    )
    return None


if __name__ == "__main__":
    main()
