"""Where a training runs: the same command on CPU, on CUDA, and under ``accelerate launch`` on several GPUs."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs, reduce

from cxrsynth.device import resolve
from cxrsynth.errors import MismatchError, MissingError


def accelerate(device: str = "auto", precision: str = "bf16") -> Accelerator:
    """An Accelerator on a device as `resolve` knows them, in bfloat16 unless ``precision`` is ``no`` or ``fp16``.

    Raises:
        UsageError: the device is absent.
        MissingError: CUDA is needed for float16 and is not there.
    """
    found = resolve(device)
    if found.index is not None:
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(found)
    if precision == "fp16" and found.type != "cuda":
        raise MissingError("float16 is trained on CUDA only, and there is none", "choose bf16 or no as the precision")
    # Accelerate keeps the first device and precision of a process, which may train several networks one by one.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    # One process encodes the images for all, or draws a sheet, and the others wait for it.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=12))
    return Accelerator(mixed_precision=precision, cpu=found.type == "cpu", kwargs_handlers=[patience])


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch (tensor, dataclass with ``to``, or tuple of these) on a device; anything else stays as it is."""
    if hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, tuple):
        return tuple(to_device(part, device) for part in batch)
    return batch


def check_shared(step: int, run: Path, accelerator: Accelerator) -> None:
    """Make sure that all processes of a training go on at the same step.

    Raises:
        MismatchError: they read different checkpoints, because the run folder is not the same everywhere.
    """
    if accelerator.num_processes == 1:
        return
    steps = accelerator.gather(torch.tensor([step], device=accelerator.device)).tolist()
    if len(set(steps)) > 1:
        raise MismatchError(
            f"{run} is not the same folder on all machines: their checkpoints are at steps {steps}",
            "put the run folder on a shared file system",
        )


def agreed(stop: object, accelerator: Accelerator) -> bool:
    """Whether any process was asked to stop; all give the same answer, so that none waits for one that has gone."""
    if accelerator.num_processes == 1:
        return bool(stop)
    asked = torch.tensor(float(bool(stop)), device=accelerator.device)
    total: torch.Tensor = reduce(asked, "sum")
    return bool(total.item() > 0)
