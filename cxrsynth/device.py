"""Which device does the work; a device that was asked for is used or refused, never silently replaced."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

import torch

from cxrsynth.errors import UsageError

DTYPES = ("float32", "bfloat16", "float16")


def resolve(name: str = "auto") -> torch.device:
    """``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps`` -> a device that is there.

    Raises:
        UsageError: the device was asked for by name and is absent, or the name is none.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"'{name}' is not a device", "auto, cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"device '{name}' was asked for, {torch.cuda.device_count()} CUDA devices are there",
            "--device auto or --device cpu",
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device 'mps' was asked for and is not there", "--device auto or --device cpu")
    return device


def precision(name: str, device: torch.device) -> torch.dtype:
    """``auto`` or the name of a dtype -> a dtype: bfloat16 on CUDA and on processors that have it, else float32.

    The environment variable ``CXRSYNTH_DTYPE`` says otherwise what ``auto`` stands for, for machines that differ.

    Raises:
        UsageError: the variable names no dtype.
    """
    if name == "auto":
        name = os.environ.get("CXRSYNTH_DTYPE", "auto")
        if name not in ("auto", *DTYPES):
            raise UsageError(f"CXRSYNTH_DTYPE is '{name}'", f"auto, {', '.join(DTYPES)}")
    if name == "auto":
        fast = device.type == "cuda" or (device.type == "cpu" and has_bfloat16())
        return torch.bfloat16 if fast else torch.float32
    found: torch.dtype = getattr(torch, name)
    return found


@cache
def has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16 (AVX-512 BF16 or AMX); where it only emulates it, it is slower."""
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def tune(device: torch.device) -> None:
    """Let matrix products of float32 use the tensor cores (TF32) where there are any; a CPU is not touched."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True


def peak_memory(device: torch.device) -> int | None:
    """MiB: of the GPU's memory where one is used, of this process otherwise; None where the system does not tell."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20)
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: there a process starts with the peak of the one that started it.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 2**10)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if platform.system() == "Darwin" else 2**10))  # bytes there, KiB elsewhere
