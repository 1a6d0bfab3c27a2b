"""Where a training runs: the same command on CPU, on CUDA, and under ``accelerate launch`` on several GPUs."""

from __future__ import annotations

import torch
from accelerate import Accelerator

from cxrsynth.errors import MissingError, UsageError


def accelerate(device: str = "auto", precision: str = "bf16") -> Accelerator:
    """An Accelerator on ``auto``, ``cpu`` or ``cuda``, in bfloat16 unless ``precision`` is ``no``.

    Raises:
        MissingError: CUDA was asked for and is not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"unknown device '{device}'", "known: auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise MissingError(
            "CUDA was asked for, but torch finds no CUDA device", "leave out --device, or type --device cpu"
        )
    return Accelerator(mixed_precision=precision, cpu=device == "cpu")
