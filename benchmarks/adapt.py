"""Adapting: images per second against the loop of diffusers' text-to-image example, and the shape of Stable Diffusion.

    python -m benchmarks.adapt                  # the tiny model of the tests, in turn with the example's loop
    python -m benchmarks.adapt --resumed        # only: are the losses of a killed and resumed run the same?
    python -m benchmarks.adapt --large lora     # 860 M parameters with random weights: memory and seconds per update
    python -m benchmarks.adapt --large full

The example's loop is written out here as `train_text_to_image.py` of diffusers does it: pictures from disk,
autoencoder and text encoder in every step, AdamW, EMA, min-SNR. One of its updates follows each of ours in the same
process, and the median of the ratios is given: the machine's speed drifts. Ours encodes images once, before the first
update; so the loop runs a second time with latents that are there already. Writes results/adapt.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.training_utils import EMAModel, compute_snr
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from transformers import CLIPTextConfig, CLIPTextModel

from cxrsynth.device import peak_memory
from cxrsynth.evaluate.results import Record, record, write
from cxrsynth.nets.config import TextConfig
from cxrsynth.nets.text import build_tokenizer
from cxrsynth.store import Store
from cxrsynth.train.tasks.diffusion.config import DiffusionRecipe
from cxrsynth.train.tasks.diffusion.training import train_diffusion
from cxrsynth.weights import resolve
from tests.tiny import WORDS, build
from tests.train.images import make

COMMAND = "python -m benchmarks.adapt"
WARM = 3
# What full training needs beside what others use: weights, gradients and Adam's two moments in float32, and a margin.
FULL_GIB = 20


def recipe(**adapting: Any) -> DiffusionRecipe:
    """Nothing but the loop: no grounding, no validation, no sheets."""
    quiet = {"sheet_prompts": [], "validation_images": 0, "look_every": 10**6, "checkpoint_minutes": 999, "warmup": 0}
    body = {"images": {"fit": "squash"}, "grounding": {"images_per_batch": 0}, "training": {**quiet, **adapting}}
    return DiffusionRecipe.model_validate(body)


class Pictures(Dataset[dict[str, torch.Tensor]]):
    """Pictures and captions as the example reads them."""

    def __init__(self, root: Path, base: Any, side: int) -> None:
        self.paths = sorted((root / "images").rglob("*.png"))
        captions = [row["prompt"] for row in Store(root).rows()]
        options = {"max_length": base.tokenizer.model_max_length, "padding": "max_length", "truncation": True}
        self.ids = base.tokenizer(captions, return_tensors="pt", **options).input_ids
        steps = [transforms.Resize(side), transforms.CenterCrop(side), transforms.ToTensor()]
        self.change = transforms.Compose([*steps, transforms.Normalize([0.5], [0.5])])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"pixels": self.change(Image.open(self.paths[i]).convert("RGB")), "ids": self.ids[i]}


def example(base: Path, root: Path, batch: int, cached: bool, device: torch.device) -> Callable[[], None]:
    """One update of the example's loop per call.

    Args:
        cached: the latents of a batch are there already; only captions are read.
    """
    whole = StableDiffusionPipeline.from_pretrained(base, torch_dtype=torch.float32, safety_checker=None).to(device)
    unet, vae, text_encoder = whole.unet.train(), whole.vae, whole.text_encoder
    vae.requires_grad_(False)
    text_encoder.requires_grad_(False)
    schedule = DDPMScheduler.from_config(whole.scheduler.config)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-5, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    ema = EMAModel(unet.parameters())
    loader = DataLoader(Pictures(root, whole, 64), shuffle=True, batch_size=batch, drop_last=True)
    endless = (item for _ in iter(int, 1) for item in loader)
    ready: list[torch.Tensor] = []

    def update() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            if ready:
                latents, ids = ready
            else:
                item = next(endless)
                ids = item["ids"].to(device)
                latents = vae.encode(item["pixels"].to(device)).latent_dist.sample() * vae.config.scaling_factor
                if cached:
                    ready.extend([latents, ids])
            noise = torch.randn_like(latents)
            times = torch.randint(0, schedule.config.num_train_timesteps, (len(latents),), device=device).long()
            noisy = schedule.add_noise(latents, noise, times)
            states = text_encoder(ids, return_dict=False)[0]
            prediction = unet(noisy, times, states, return_dict=False)[0]
        snr = compute_snr(schedule, times)
        weights = torch.stack([snr, 5.0 * torch.ones_like(times)], dim=1).min(dim=1)[0] / snr
        error = F.mse_loss(prediction.float(), noise.float(), reduction="none").mean(dim=(1, 2, 3))
        loss = (error * weights).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        ema.step(unet.parameters())
        loss.item()

    return update


def throughput(updates: int, batch: int, cached: bool) -> list[Record]:
    """Ours and the example in turn."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ours: list[float] = []
    plain: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        root, base = make(Path(folder) / "images", images=34), build(Path(folder) / "sd", gray=False)
        update = example(base, root, batch, cached, device)
        last = 0.0

        def on_step(done: int, total: int, values: dict[str, float]) -> None:
            nonlocal last
            middle = time.perf_counter()
            update()
            if WARM < done < total:  # the last update of ours also saves
                ours.append(middle - last)
                plain.append(time.perf_counter() - middle)
            last = time.perf_counter()

        train_diffusion(
            [root], Path(folder) / "run", resolve(str(base)), recipe(updates=updates, batch=batch), on_step=on_step
        )
    ratios = [theirs / mine for theirs, mine in zip(plain, ours, strict=True)]
    rng = np.random.default_rng(0)
    draws = [float(np.median(rng.choice(ratios, len(ratios)))) for _ in range(2000)]
    low, high = np.percentile(draws, (2.5, 97.5))
    arm = "diffusers example, latents ready" if cached else "diffusers example"
    name, n = f"tiny, 64 px, batch {batch}", len(ratios)
    figures = (statistics.median(ratios), float(low), float(high))
    records = [record("train-diffusion", f"ours / {arm}", name, "throughput_ratio", figures, n)]
    for who, seconds in ((f"ours beside {arm}", ours), (arm, plain)):
        speed = batch / statistics.median(seconds)
        records.append(
            {**record("train-diffusion", who, name, "images_per_s", (speed,) * 3, n), "lo": None, "hi": None}
        )
    return records


def resumed(updates: int = 12) -> list[Record]:
    """Largest difference of a loss between a run that was killed halfway and resumed, and an undisturbed one."""

    def kill(done: int, total: int, values: dict[str, float]) -> None:
        if done == updates // 2:
            os.kill(os.getpid(), signal.SIGTERM)

    def losses(run: Path) -> np.ndarray:
        return np.array(
            [json.loads(line)["denoising"] for line in (run / "diffusion_log.jsonl").read_text().splitlines()]
        )

    with tempfile.TemporaryDirectory() as folder:
        root, base = make(Path(folder) / "images", images=34), build(Path(folder) / "sd", gray=False)
        whole, broken = Path(folder) / "whole", Path(folder) / "broken"
        given = (resolve(str(base)), recipe(updates=updates, batch=8, lr=1e-3))
        train_diffusion([root], whole, *given)
        try:
            train_diffusion([root], broken, *given, on_step=kill)
        except KeyboardInterrupt:
            train_diffusion([root], broken, *given)
        else:
            sys.exit("the run was not killed")
        apart = float(np.abs(losses(whole) - losses(broken)).max())
    made = record(
        "train-diffusion", "killed and resumed", "tiny, 64 px, batch 8", "loss_difference", (apart,) * 3, updates
    )
    return [{**made, "lo": None, "hi": None}]


def build_large(folder: Path) -> Path:
    """The shape of Stable Diffusion 1.5 with random weights, saved in half precision."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(WORDS, TextConfig(vocabulary=560))
    text = CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    whole = StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=4, sample_size=512,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    whole.to(torch.float16).save_pretrained(folder)
    return folder


def run_large(base: Path, root: Path, how: str, size: int, updates: int) -> None:
    """A few updates in this process; prints peak memory, seconds of each update and the number of parameters."""
    times: list[float] = []
    config = recipe(updates=updates, batch=1, gradient_checkpointing=True, ema=0)
    config = config.model_copy(
        update={
            "what": config.what.model_copy(update={"unet": how}),
            "images": config.images.model_copy(update={"size": size}),
        }
    )
    peak: list[int | None] = []

    def on_step(done: int, total: int, values: dict[str, float]) -> None:
        times.append(time.perf_counter())
        if done == total - 1:  # before the last update, which also saves a checkpoint
            peak.append(peak_memory(torch.device("cuda" if torch.cuda.is_available() else "cpu")))
            print(json.dumps({"peak_mib": peak[-1], "seconds": np.diff(times).tolist()}), flush=True)
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as run:
        try:
            train_diffusion([root], Path(run) / "run", resolve(str(base)), config, on_step=on_step)
        except KeyboardInterrupt:
            return


def large(how: str, size: int, updates: int) -> list[Record]:
    """Memory and time of the large shape, in a process of its own; nothing where the memory is not there."""
    free = psutil.virtual_memory().available / 2**30
    if how == "full" and free < FULL_GIB and not torch.cuda.is_available():
        print(f"not run: full training needs about {FULL_GIB} GiB, {free:.1f} GiB are free", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory() as folder:
        root, base = make(Path(folder) / "images", images=4, size=size), build_large(Path(folder) / "sd")
        options = ["--base", str(base), "--data", str(root), "--size", str(size), "--updates", str(updates)]
        command = [sys.executable, "-m", "benchmarks.adapt", "--alone", how, *options]
        told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    name, times = f"860 M UNet, {size} px, batch 1, checkpointing", told["seconds"]
    middle = statistics.median(times)
    figures = (middle, min(times), max(times))
    return [
        record("train-diffusion", how, name, "seconds_per_update", figures, len(times)),
        {**record("train-diffusion", how, name, "peak_mib", (told["peak_mib"],) * 3, 1), "lo": None, "hi": None},
    ]


def main() -> None:
    """Measure and write the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=512, help="of the large shape's pictures")
    parser.add_argument("--out", type=Path, default=Path("results/adapt.json"))
    parser.add_argument("--resumed", action="store_true")
    parser.add_argument("--large", choices=("lora", "full"))
    parser.add_argument("--alone", choices=("lora", "full"))
    parser.add_argument("--base", type=Path)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    if options.alone:
        return run_large(options.base, options.data, options.alone, options.size, options.updates)
    command = f"{COMMAND} --large {options.large}" if options.large else COMMAND
    shown = ("arm", "metric", "value", "lo", "hi", "n")
    # Each part on its own: a benchmark that is stopped keeps what it has.
    parts: list[Callable[[], list[Record]]] = [resumed]
    if options.large:
        parts = [partial(large, options.large, options.size, options.updates or 6)]
    elif not options.resumed:
        parts += [partial(throughput, options.updates or 60, options.batch, cached) for cached in (False, True)]
    for part in parts:
        found = part()
        write(options.out, [{**one, "command": command} for one in found])
        print(json.dumps([{key: one[key] for key in shown} for one in found], indent=2), flush=True)
    return None


if __name__ == "__main__":
    main()
