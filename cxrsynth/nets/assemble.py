"""Models put together from pieces: a single file, a denoiser without the rest, LoRA folders on top.

Each ends as a plain model folder in a cache, named by the sha256 of its pieces: workers, receipts and fingerprints then
know one form of model only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors import SafetensorError

from cxrsynth import weights
from cxrsynth.errors import MismatchError, MissingError, UsageError
from cxrsynth.files import publish
from cxrsynth.nets import parts
from cxrsynth.nets.bundle import hush
from cxrsynth.nets.families import family_of
from cxrsynth.nets.lora import ABOUT, read_about
from cxrsynth.weights import Weights

FILES = (".safetensors", ".ckpt")
UNREADABLE = (*parts.UNREADABLE, AttributeError, SafetensorError)


def find(model: str, base: str | None = None, lora: Sequence[str] = (), offline: bool = False) -> Weights:
    """A model as a recipe names it, put together where it comes in pieces.

    Args:
        model: bundled name, folder, hub id; a single ``.safetensors`` or ``.ckpt`` file; a folder with a denoiser only.
        base: the model that a file or a lone denoiser takes the other parts from.
        lora: folders or files with LoRA weights as diffusers saves them, each ``PATH`` or ``PATH:SCALE``.
        offline: never ask the network.

    Raises:
        UsageError: a lone denoiser without a base, or a base that is not needed.
        MissingError: a piece is missing or cannot be read.
        MismatchError: a LoRA that says it belongs to another base.
    """
    path = Path(model).expanduser()
    single = path.is_file() and path.suffix in FILES
    lone = path.is_dir() and not (path / "model_index.json").exists() and _denoiser_in(path) is not None
    if base is not None and not (single or lone):
        raise UsageError(f"'{model}' is a whole model and needs no base", "leave base away")
    if lone and base is None:
        raise UsageError(f"{path} holds a denoiser only", "name the model it was trained from with --base")
    if not (single or lone):
        whole = weights.resolve(model, offline)
    else:
        ground = None if base is None else weights.resolve(base, offline)
        whole = _from_file(model, path, ground, offline) if single else _from_denoiser(model, path, ground)
    return whole if not lora else _with_lora(whole, [scaled(one) for one in lora])


def scaled(text: str) -> tuple[Path, float]:
    """``PATH`` or ``PATH:SCALE`` -> path and scale.

    Raises:
        MissingError: there is no such path.
    """
    name, colon, number = text.rpartition(":")
    try:
        scale = float(number) if colon else 1.0
    except ValueError:
        name, scale = text, 1.0
    path = Path(name if colon and name else text).expanduser()
    if not path.exists():
        raise MissingError(
            f"there are no LoRA weights at {path}", "name a folder that diffusers or train-diffusion wrote"
        )
    return path, scale


def cache() -> Path:
    """Where models are put together; ``CXRSYNTH_CACHE`` names another place."""
    return Path(os.environ.get("CXRSYNTH_CACHE") or Path.home() / ".cache/cxrsynth") / "models"


def _made(name: str, pieces: Sequence[str], write: Callable[[Path], None]) -> Weights:
    """The model of these pieces, from the cache or written now, as a whole."""
    folder = cache() / hashlib.sha256("\n".join(pieces).encode()).hexdigest()[:24]
    if not (folder / "model_index.json").exists():
        hush()
        folder.parent.mkdir(parents=True, exist_ok=True)
        publish(folder, write)
    weights.check_parts(folder, name)
    return Weights(name, folder, weights.digest(folder), weights.licence(folder))


def _denoiser_in(path: Path) -> Path | None:
    """The folder of a lone denoiser: the path itself, or its ``unet`` or ``transformer``."""
    places = [path, *(path / name for name in weights.DENOISERS)]
    return next((place for place in places if (place / "config.json").exists()), None)


def _from_denoiser(name: str, path: Path, base: Weights | None) -> Weights:
    """The base with its denoiser exchanged; nothing is loaded."""
    found = _denoiser_in(path)
    assert found is not None  # asked before
    assert base is not None
    part = family_of(base.path).part
    files = [file for file in sorted(found.iterdir()) if file.is_file() and not file.name.startswith(".")]

    def write(folder: Path) -> None:
        shutil.copytree(base.path, folder, dirs_exist_ok=True, copy_function=_link, ignore=shutil.ignore_patterns(part))
        (folder / part).mkdir()
        for file in files:
            _link(str(file), str(folder / part / file.name))

    return _made(name, [base.digest, *(f"{file.name} {weights.hash_of(file)}" for file in files)], write)


def _link(source: str, target: str) -> str:
    """A second name for a file where the disk allows it, a copy elsewhere."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)
    return target


def _from_file(name: str, path: Path, base: Weights | None, offline: bool) -> Weights:
    """A single file in the form of its authors, converted by diffusers; pickles are read as weights only."""
    from diffusers.loaders.single_file_utils import (
        SingleFileComponentError,
        infer_diffusers_model_type,
        load_single_file_checkpoint,
    )

    def write(folder: Path) -> None:
        try:
            if base is not None:
                kind, config = parts.index(base.path)["_class_name"], str(base.path)
            else:
                found = infer_diffusers_model_type(load_single_file_checkpoint(str(path)))
                kind, config = (
                    "StableDiffusionXLPipeline" if found.startswith("xl") else "StableDiffusionPipeline",
                    None,
                )
            whole = getattr(diffusers, kind).from_single_file(
                str(path), config=config, local_files_only=offline or base is not None, torch_dtype=torch.float32
            )
            if "safety_checker" in whole.components:
                whole.register_modules(safety_checker=None, feature_extractor=None)
            whole.save_pretrained(folder)
        except (*UNREADABLE, SingleFileComponentError) as error:
            raise MissingError(
                f"{path} cannot be read as a model: {' '.join(str(error).split())[:300]}",
                "name a model of the same kind with --base, whose configs are then used",
            ) from error

    return _made(name, [weights.hash_of(path), base.digest if base else ""], write)


def _with_lora(base: Weights, adapters: Sequence[tuple[Path, float]]) -> Weights:
    """The base with LoRA weights merged into it, each with its scale."""
    for path, _ in adapters:
        if (path / ABOUT).exists() and (said := read_about(path))["base_sha256"] != base.digest:
            raise MismatchError(
                f"{path} was trained on '{said['base']}', '{base.name}' is another model",
                f"--model {said['base']}",
            )

    def write(folder: Path) -> None:
        whole: Any = _pipeline(base.path)
        if not hasattr(whole, "load_lora_weights"):
            raise UsageError(f"a {type(whole).__name__} takes no LoRA", "merge it with the tool that trained it")
        names = [f"lora{i}" for i in range(len(adapters))]
        try:
            for adapter, (path, _) in zip(names, adapters, strict=True):
                whole.load_lora_weights(str(path), adapter_name=adapter)
            whole.set_adapters(names, [scale for _, scale in adapters])
            whole.fuse_lora(adapter_names=names)
            whole.unload_lora_weights()
        except UNREADABLE as error:
            raise MissingError(
                f"the LoRA weights do not fit '{base.name}': {' '.join(str(error).split())[:300]}",
                "name the model they were trained on with --model",
            ) from error
        whole.save_pretrained(folder)

    pieces = [f"{weights.hash_of(file)} {scale}" for path, scale in adapters for file in _files(path)]
    return _made(base.name, [base.digest, *pieces], write)


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(p for p in path.iterdir() if p.suffix in (".safetensors", ".bin"))


def _pipeline(folder: Path) -> Any:
    """The whole pipeline of diffusers, in float32."""
    hush()
    kind = getattr(diffusers, parts.index(folder)["_class_name"])
    absent = {
        name: None
        for name in ("safety_checker", "feature_extractor", "image_encoder")
        if parts.named(folder, name) is None and name in kind._optional_components
    }
    return kind.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True, **absent)
