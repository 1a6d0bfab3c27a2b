"""AffinityNet: learned from what attention is sure of in a pilot dataset, one network for all classes.

psa (Ahn and Kwak, CVPR 2018, section 3.2) with the seeds of DiffuMask (ICCV 2023, section 3.2). DiffuMask trains one
network per class; here classes tell each other apart in one.
"""

from __future__ import annotations

import json
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

from cxrsynth.data.classes import read_classes
from cxrsynth.data.dataset import rows as read_rows
from cxrsynth.data.dataset import trainable
from cxrsynth.data.documents import read_yaml
from cxrsynth.data.patients import patient_id
from cxrsynth.errors import CxrError, UsageError
from cxrsynth.masks.attention import Joint
from cxrsynth.masks.crf import Crf
from cxrsynth.masks.seeds import confident
from cxrsynth.masks.walk import offsets
from cxrsynth.nets.affinity import AffinityNet
from cxrsynth.pool import spawn_pool
from cxrsynth.records import IGNORE
from cxrsynth.store import Row, Store, dumps, sha256, write_atomic
from cxrsynth.train.curves import Progress
from cxrsynth.train.device import accelerate
from cxrsynth.train.loop import Figures, Turn, train
from cxrsynth.train.loop_config import FREE
from cxrsynth.train.tasks.affinity.config import AffinityConfig
from cxrsynth.weights import AUXILIARY


@dataclass(frozen=True, slots=True)
class Images:
    """Pictures and what attention is sure of.

    Attributes:
        images: (N, size, size) uint8.
        seeds: (N, size, size) uint8: 0 background, k + 1 class k, 255 disputed.
    """

    images: np.ndarray
    seeds: np.ndarray


@dataclass(frozen=True, slots=True)
class Batch:
    """What an update sees: (B, 1, crop, crop) float32 in -1..1, and (B, h, w) uint8 seeds."""

    images: Tensor
    seeds: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(self.images.to(device), self.seeds.to(device))


class AffinityTask:
    """See `cxrsynth.train.loop.Task`; the network with the lowest held-out loss is kept."""

    score = "closeness"
    shown = ("loss", "held_out")

    def __init__(
        self, net: AffinityNet, images: Images, held: Images, config: AffinityConfig, stem: str, identity: str
    ) -> None:
        self.images, self.held, self.config, self.stem, self.identity = images, held, config, stem, identity
        self.turns = [Turn("loss", net, self.step)]

    def batch(self, update: int, rng: np.random.Generator) -> Batch:
        """Random crops of random images with a random tone."""
        images, config = self.images, self.config
        side = min(config.crop, config.size)
        which = rng.integers(len(images.images), size=config.batch)
        corners = rng.integers(config.size - side + 1, size=(config.batch, 2))
        tone = np.exp(rng.uniform(-config.gamma, config.gamma, size=(config.batch, 1, 1))).astype(np.float32)
        cut = [np.s_[i, y : y + side, x : x + side] for i, (y, x) in zip(which, corners, strict=True)]
        toned = (np.stack([images.images[one] for one in cut]).astype(np.float32) / 255) ** tone
        seeds = np.stack([images.seeds[one] for one in cut])
        return Batch(torch.from_numpy(toned[:, None] * 2 - 1), torch.from_numpy(thin(seeds, config.stride)))

    def step(self, net: nn.Module, batch: Batch, update: int) -> tuple[Tensor, Figures]:
        """The loss of `affinity_loss`."""
        return affinity_loss(net(batch.images), batch.seeds, self.config)["loss"], {}

    def look(self, network: nn.Module, update: int) -> Figures:
        """Loss on the held-out images, and its negative, of which the highest is the best."""
        loss = check(network, self.held, self.config)["loss"]
        return {"held_out": loss, "closeness": -loss}


def train_affinity(
    pilot: Path, out: Path, config: AffinityConfig, device: str = "auto", on_step: Progress | None = None
) -> dict[str, Any]:
    """Train on the maps of a pilot dataset and write the best network to ``out``.

    Running the same command again goes on at the last checkpoint, with the same result as without the break.

    Args:
        pilot: dataset with stored maps, as ``generate`` or ``annotate`` writes it; reference masks are never read.
        out: ``.safetensors`` file.

    Returns:
        What came of it: file, sha256, images, held-out loss, affinity within and across classes, seeds.

    Raises:
        UsageError: no maps, too few images, or ``out`` does not end in ``.safetensors``.
        MismatchError: the checkpoint beside ``out`` is of another pilot or config.
    """
    if out.suffix != ".safetensors":
        raise UsageError(f"{out} does not end in .safetensors", "for example: -o affinity.safetensors")
    accelerator = accelerate(device, config.precision)
    store = Store(pilot)
    train_rows, held_rows = split(read_rows(pilot, ("train", "val"), trainable), config)
    classes = competing_classes(store)
    with spawn_pool(2) as pool:
        images = read(store, train_rows, classes, config, pool)
        held = read(store, held_rows, classes, config, pool)
    torch.manual_seed(config.seed)
    net = AffinityNet(config.encoder, config.width, config.stride)
    who = [[row["key"] for row in group] for group in (train_rows, held_rows)]
    prints = sorted({receipt.fingerprint for receipt in store.receipts()})
    identity = sha256(dumps([config.digest(*FREE, "patience"), who, prints, classes]))
    task = AffinityTask(net, images, held, config, out.stem, identity)
    done = train(task, out.parent, config, accelerator, on_step)
    result: dict[str, Any] = {}
    if accelerator.is_main_process:
        result = finish(out, net, done.figures["best_update"], held, config, classes, len(train_rows), prints)
    accelerator.wait_for_everyone()
    return result


def finish(
    out: Path,
    net: AffinityNet,
    best: int,
    held: Images,
    config: AffinityConfig,
    classes: list[str],
    n: int,
    made: list[str],
) -> dict[str, Any]:
    """Write the best network, and say how good it is.

    Raises:
        CxrError: its held-out loss is no number.
    """
    figures = check(net, held, config)
    if not np.isfinite(figures["loss"]):
        raise CxrError("the held-out loss was never a number", "try a smaller learning rate: --set lr=0.0003")
    shares = [float((held.seeds == value).mean()) for value in (*range(len(classes) + 1), IGNORE)]
    result: dict[str, Any] = {
        "images": n,
        "held_out_images": len(held.images),
        "held_out_loss": round(figures["loss"], 4),
        "affinity_within": round(figures["same"], 4),
        "affinity_across": round(figures["different"], 4),
        "best_step": best,
        "seeds": dict(zip(["background", *classes, "disputed"], (round(share, 4) for share in shares), strict=True)),
    }
    training = {**result, "pilot": made, "recipe": config.model_dump(mode="json")}
    # One entry: several would come in another order, and the file with another sha256, each time.
    about = json.dumps({"format": AUXILIARY["weights"].format, "net": net.config, "training": training}, sort_keys=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    data = save(weights, {"cxrsynth": about})
    write_atomic(out, data)
    return {"weights": str(out), "sha256": sha256(data), "bytes": len(data), **result}


def split(rows: list[Row], config: AffinityConfig) -> tuple[list[Row], list[Row]]:
    """Images to learn from and images to stop by, patients kept together.

    Raises:
        UsageError: fewer than two images, or all of one patient.
    """
    patients = sorted({patient_id(row) for row in rows})
    few = max(1, round(config.held_out * len(patients)))
    chosen = set(np.random.default_rng(config.seed).permutation(patients)[:few].tolist())
    held = [row for row in rows if patient_id(row) in chosen]
    train = [row for row in rows if patient_id(row) not in chosen]
    if not train:
        raise UsageError(f"{len(rows)} images are too few to learn from and stop by", "generate a pilot of 64 or more")
    return train, held


def competing_classes(store: Store) -> list[str]:
    """Names of the classes that share the label map; a class that overlaps others has no edge of its own."""
    classes = store.classes()
    return [name for name in classes if name not in _overlapping(store)]


def _overlapping(store: Store) -> set[str]:
    return {item["name"] for item in read_classes(store.root / "classes.json", empty=True) if item.get("overlap")}


def normaliser(store: Store) -> Joint:
    """How the pilot's own recipe makes probabilities of maps; the defaults where it has none."""
    path = store.root / "recipe.yaml"
    recipe = read_yaml(path) if path.exists() else {}
    entry = recipe.get("masks", {}).get("normalise", {})
    return Joint(**{key: value for key, value in entry.items() if key != "use"})


def read(store: Store, rows: list[Row], classes: list[str], config: AffinityConfig, pool: Executor) -> Images:
    """Pictures and seeds of some rows.

    Raises:
        UsageError: the maps were not kept.
    """
    joint, crf = normaliser(store), Crf(certainty=config.certainty)
    names = list(store.classes())
    which = [names.index(name) for name in classes]
    images, waiting = [], []
    for row in rows:
        stored = store.load_maps(row)
        if stored is None:
            raise UsageError(f"{store.root} keeps no maps", "generate the pilot with masks.keep_maps: true")
        picture = Image.fromarray(store.load_image(row))
        if picture.size != (config.size, config.size):
            picture = picture.resize((config.size, config.size), Image.Resampling.LANCZOS)
        images.append(np.asarray(picture))
        maps = stored["maps"][which].astype(np.float32)
        waiting.append(pool.submit(confident, images[-1], maps, joint, crf, config.band))
    return Images(np.stack(images), np.stack([future.result() for future in waiting]))


def thin(seeds: np.ndarray, stride: int) -> np.ndarray:
    """(B, H, W) -> (B, H / stride, W / stride): the label in the middle of each place."""
    return np.ascontiguousarray(seeds[:, stride // 2 :: stride, stride // 2 :: stride])


def affinity_loss(features: Tensor, seeds: Tensor, config: AffinityConfig) -> dict[str, Tensor]:
    """psa, equation 6: background pairs a quarter, foreground pairs a quarter, pairs of unlike classes a half.

    Args:
        features: (B, C, h, w) float32.
        seeds: (B, h, w) uint8; pairs with a disputed place do not count.

    Returns:
        ``loss``, and the mean affinity of pairs of the ``same`` and of ``different`` classes; all scalars.
    """
    _, _, height, width = features.shape
    nothing = features.new_zeros(())
    sums = dict.fromkeys(("background", "foreground", "different", "a_same", "a_different"), nothing)
    counts = dict.fromkeys(("background", "foreground", "different"), nothing)
    for dy, dx in offsets(config.radius):
        here = (..., slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
        there = (..., slice(dy, height), slice(max(0, dx), width - max(0, -dx)))
        distance = (features[here] - features[there]).abs().mean(dim=1)  # (B, h', w')
        a, b = seeds[here], seeds[there]
        known = (a != IGNORE) & (b != IGNORE)
        kinds = {"background": known & (a == b) & (a == 0), "foreground": known & (a == b) & (a != 0)}
        kinds["different"] = known & (a != b)
        affinity = torch.exp(-distance)
        for kind, pairs in kinds.items():
            cost = distance if kind != "different" else -torch.log(1 - affinity + 1e-5)
            sums[kind] = sums[kind] + (cost * pairs).sum()
            counts[kind] = counts[kind] + pairs.sum()
            which = "a_different" if kind == "different" else "a_same"
            sums[which] = sums[which] + (affinity.detach() * pairs).sum()
    mean = {kind: sums[kind] / counts[kind].clamp_min(1) for kind in counts}
    same = counts["background"] + counts["foreground"]
    return {
        "loss": mean["background"] / 4 + mean["foreground"] / 4 + mean["different"] / 2,
        "same": sums["a_same"] / same.clamp_min(1),
        "different": sums["a_different"] / counts["different"].clamp_min(1),
    }


@torch.no_grad()
def check(net: nn.Module, images: Images, config: AffinityConfig) -> dict[str, float]:
    """The figures of `affinity_loss` on whole images, mean over batches."""
    net.eval()
    device = next(net.parameters()).device
    found: list[dict[str, float]] = []
    for start in range(0, len(images.images), config.batch):
        part = images.images[start : start + config.batch, None].astype(np.float32) / 127.5 - 1
        seeds = torch.from_numpy(thin(images.seeds[start : start + config.batch], config.stride)).to(device)
        figures = affinity_loss(net(torch.from_numpy(part).to(device)), seeds, config)
        found.append({name: value.item() for name, value in figures.items()})
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}
