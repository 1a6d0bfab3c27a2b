"""What trainings on labelled images share, whatever the labels: what is learned from, what is held out, the result."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import numpy as np
import torch
from torch import Tensor, nn

from cxrsynth.data.held_out import Carved, Keep
from cxrsynth.data.labelled import Source
from cxrsynth.data.patients import PATIENTS, AnyImage, check_patients
from cxrsynth.device import peak_memory
from cxrsynth.encoding import dumps, sha256
from cxrsynth.errors import UsageError
from cxrsynth.files import publish
from cxrsynth.nets.network_folder import save
from cxrsynth.train.curves import Curves
from cxrsynth.train.loop_config import FREE, LoopConfig

# (dataset, split, condition on rows) -> its images
Gather = Callable[[Source, str, Keep], list[AnyImage]]


@dataclass(frozen=True, slots=True)
class Images(Generic[AnyImage]):
    """What is learned from and what is held out.

    Attributes:
        names: of classes or labels, in the order of the outputs.
        train: one list per dataset.
        val: all of them together.
        shown: the validation images that decide during training.
    """

    names: tuple[str, ...]
    train: list[list[AnyImage]]
    val: list[AnyImage]
    shown: list[AnyImage]

    @property
    def learned(self) -> list[AnyImage]:
        """The images of all datasets that are learned from."""
        return [image for part in self.train for image in part]


def roots_of(sources: Sequence[Source], validation: Sequence[Source]) -> list[Path]:
    """The datasets that are validated on: those named, or else those learned from.

    Raises:
        UsageError: there is no dataset.
    """
    if not sources:
        raise UsageError("there is nothing to learn from", "name a dataset with --data")
    return list(dict.fromkeys(source.root for source in validation or sources))


def collect(
    names: tuple[str, ...],
    sources: Sequence[Source],
    validation: Sequence[Source],
    gather: Gather[AnyImage],
    usable: Keep,
    learn: Keep,
    watch: Keep,
    shown: int,
    seed: int,
) -> Images[AnyImage]:
    """All images, with every check that can be made before training.

    Args:
        usable: rows of which a missing validation split may be made.
        learn: rows that may be learned from.
        watch: rows that may be validated on.
        shown: how many validation images decide during training.

    Raises:
        UsageError: an empty split.
        MismatchError: an unfinished shard, or a patient in two splits.
    """
    roots = roots_of(sources, validation)
    held_out = Carved([] if validation else roots, usable)
    train = [gather(source, "train", held_out.left(source.root, learn)) for source in sources]
    val = [image for root in roots for image in gather(Source(root), held_out.split(root), held_out.taken(root, watch))]
    order = np.random.default_rng(seed).permutation(len(val))[:shown]
    images = Images(names, train, val, [val[i] for i in sorted(order)])
    check_patients(images.learned, val)
    return images


def identity(
    config: LoopConfig, images: Images[AnyImage], sources: Sequence[Source], origin: Mapping[str, str], *said: object
) -> str:
    """sha256 of all that a running training cannot change; where the folders lie does not matter."""
    keys = [[image.row["key"] for image in part] for part in (*images.train, images.val)]
    made = [sorted({receipt.fingerprint for receipt in part[0].store.receipts()}) for part in images.train]
    weights = [source.weight for source in sources]
    return sha256(dumps([config.digest(*FREE), images.names, keys, *said, made, weights, origin]))


def machine(device: torch.device) -> dict[str, Any]:
    """Where a training ran, and the memory it took, for ``metrics.json``."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"machine": name, "peak_memory_mib": peak_memory(device)}


def datasets(
    images: Images[AnyImage], sources: Sequence[Source], count: Callable[[list[AnyImage]], dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """What was learned from, for ``config.json``.

    Args:
        count: what else is said of the images of a dataset.
    """
    return [
        {
            "name": source.root.resolve().name,
            "weight": source.weight,
            "images": len(part),
            "patients": len({image.patient for image in part}),
            **(count(part) if count else {}),
        }
        for source, part in zip(sources, images.train, strict=True)
    ]


def write_network(
    run: Path,
    network: nn.Module,
    body: Mapping[str, Any],
    metrics: Mapping[str, Any],
    outside: Mapping[str, Tensor] | Any,
    images: Images[AnyImage],
    curves: Curves,
    figures: Sequence[str],
    pictures: Mapping[str, bytes],
) -> Path:
    """Put ``run/model`` in place as a whole.

    Args:
        outside: what the network says of itself to other tools.
        figures: of the log, in the plot.
        pictures: name -> content of further files.
    """
    # So that a test on one of these patients can be refused later, on any machine.
    known = {"train": images.learned, "val": images.val}
    seen = {
        split: sorted({image.patient for image in part if image.row.get("patient")}) for split, part in known.items()
    }

    def write(folder: Path) -> None:
        save(folder, network, body, metrics, outside)
        (folder / PATIENTS).write_bytes(dumps(seen))
        for name, content in pictures.items():
            (folder / name).write_bytes(content)
        curves.plot(folder / "curves.png", figures)

    publish(run / "model", write)
    return run / "model"
