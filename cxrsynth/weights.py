"""Where weights come from: bundled with the package, a local folder, or the Hugging Face hub.

All three end as a folder in diffusers' form, and a digest of everything in it that can change a
image.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cxrsynth.data import documents
from cxrsynth.data.paths import trouble
from cxrsynth.encoding import dumps, file_sha256
from cxrsynth.errors import MissingError, UsageError
from cxrsynth.files import write_atomic
from cxrsynth.registry import unknown

MODELS = Path(__file__).parent / "models"
# Where the network that removes noise lies, by family.
DENOISERS = ("unet", "transformer")
# Folders that every pipeline has besides, and those of its index that change no image here.
NEEDED = ("vae", "text_encoder", "tokenizer", "scheduler")
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
WEIGHT_SUFFIXES = (".safetensors", ".bin")
PART = re.compile(r"\w+")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True, slots=True)
class Weights:
    """A model that is there and whole.

    Attributes:
        name: as it was asked for: ``mini``, a path, or a hub id.
        path: its folder.
        digest: sha256 over the relative names and sha256 of all its files but texts for people.
        licence: as its model card states it, empty where it does not.
    """

    name: str
    path: Path
    digest: str
    licence: str


def bundled() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.name.removesuffix(".sha256.json") for path in MODELS.glob("*.sha256.json"))


def resolve(model: str, offline: bool = False) -> Weights:
    """Find a model by its bundled name, folder or hub id.

    Args:
        offline: never ask the network.

    Raises:
        UsageError: neither a bundled name nor a folder nor of the form of a hub id; the right names are listed.
        MissingError: a part of it is missing or damaged, or it has to be downloaded and must not be.
    """
    folder = Path(model).expanduser()
    if model in bundled():
        folder = MODELS / model
        check_parts(folder, model)
        check_pins(folder, MODELS / f"{model}.sha256.json")
    elif folder.is_dir():
        check_parts(folder, model)
    elif model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise MissingError(
            f"the model folder {model} does not exist", f"name an existing folder, or one of: {', '.join(bundled())}"
        )
    elif HUB_ID.fullmatch(model):
        folder = from_hub(model, offline)
        check_parts(folder, model)
    else:
        raise (
            unknown("models", model, bundled())
            if bundled()
            else UsageError(f"unknown model '{model}'", "no model is bundled here; name a folder or a hub id")
        )
    return Weights(model, folder, digest(folder), licence(folder))


# One copy of the weights: no pickles beside safetensors, no second precision, no other frameworks.
HUB_PARTS = ("model_index.json", "README.md", *(f"{part}*/*" for part in (*DENOISERS, *NEEDED)))
HUB_SECOND = ("*.bin", "*.fp16.*", "*non_ema*", "*.msgpack", "*.onnx*", "*openvino*")


def from_hub(model: str, offline: bool) -> Path:
    """The local copy of a hub model, ``owner/name`` or ``owner/name@revision``; downloads it unless ``offline``."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    offline = offline or os.environ.get("HF_HUB_OFFLINE") == "1"
    name, _, revision = model.partition("@")
    at = f" --revision {revision}" if revision else ""
    by_hand = f"download it first with `huggingface-cli download {name}{at} --local-dir DIR`, then --model DIR"

    def get(leave: tuple[str, ...]) -> Path:
        return Path(
            snapshot_download(
                name,
                revision=revision or None,
                allow_patterns=list(HUB_PARTS),
                ignore_patterns=list(leave),
                local_files_only=offline,
            )
        )

    try:
        folder = get(HUB_SECOND)
        if not offline and (folder / "model_index.json").exists() and _lacks_weights(folder):
            folder = get(HUB_SECOND[3:])  # there are only pickles, or only half precision
        return folder
    except LocalEntryNotFoundError:
        why = "--offline was asked for" if offline else "the hub cannot be reached"
        raise MissingError(f"{model} is not on this machine and {why}", by_hand) from None
    except GatedRepoError:
        raise MissingError(
            f"{name} is gated", "accept its terms on its hub page, type `huggingface-cli login`, try again"
        ) from None
    except RevisionNotFoundError:
        raise MissingError(
            f"{name} has no revision '{revision}'", "look at its branches and tags on its page"
        ) from None
    except RepositoryNotFoundError:
        raise MissingError(
            f"the hub knows no model {name}", f"check the name, or use one of: {', '.join(bundled())}"
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise MissingError(f"{model} cannot be downloaded: {error}", by_hand) from None


def _lacks_weights(folder: Path) -> bool:
    with_weights = [part for part in parts(folder) if about_part(part) == "config.json" and (folder / part).is_dir()]
    return any(not any(p.suffix in WEIGHT_SUFFIXES for p in (folder / part).iterdir()) for part in with_weights)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON mapping of a model folder.

    Raises:
        MissingError: it cannot be read; the file is named.
    """
    try:
        body = documents.read_json(path)
    except UsageError as error:
        raise MissingError(f"{path} cannot be read: {error.message}", "copy that file of the model again") from error
    if not isinstance(body, dict):
        raise MissingError(f"{path} holds no JSON mapping", "copy that file of the model again")
    return body


def parts(folder: Path) -> list[str]:
    """The folders of a model that can change an image: what every pipeline has, and what its index names besides."""
    index = read_json(folder / "model_index.json")
    named = [name for name, value in index.items() if isinstance(value, list) and value and None not in value]
    for name in named:
        if not PART.fullmatch(name):
            raise MissingError(f"{folder / 'model_index.json'} names a part {name[:80]!r}", "copy that file again")
    denoiser = next((name for name in DENOISERS if name in named), DENOISERS[0])
    return list(dict.fromkeys([denoiser, *NEEDED, *(name for name in named if name not in UNUSED)]))


def about_part(part: str) -> str:
    """The file that says what a part is."""
    if part.startswith("tokenizer"):
        return "tokenizer_config.json"
    return "scheduler_config.json" if part == "scheduler" else "config.json"


def check_parts(folder: Path, model: str) -> None:
    """Raise MissingError that names the first part of the pipeline that is not there, or cannot be read."""
    if not (folder / "model_index.json").exists():
        raise MissingError(
            f"model '{model}' lacks model_index.json", "a folder as diffusers writes it is needed, with all its parts"
        )
    expected = parts(folder)
    hint = f"a folder as diffusers writes it is needed: model_index.json, {', '.join(expected)}"
    for part in expected:
        file = about_part(part)
        if not (folder / part / file).exists():
            raise MissingError(f"model '{model}' lacks its {part} ({part}/{file})", hint)
        read_json(folder / part / file)
        if file != "config.json":
            continue
        for index in (folder / part).glob("*.index.json"):
            listed = read_json(index).get("weight_map", {})
            shards = {str(shard) for shard in listed.values()} if isinstance(listed, dict) else {"what it names"}
            for shard in sorted(shards):
                if Path(shard).name != shard or trouble(folder / part / shard):
                    raise MissingError(f"model '{model}' lacks {part}/{shard}", "copy the whole folder again")
        if not any(path.suffix in WEIGHT_SUFFIXES for path in (folder / part).iterdir()):
            raise MissingError(f"model '{model}' has no weights in {part}/", hint)


def check_pins(folder: Path, pins: Path) -> None:
    """Compare a bundled model with the sha256 that were pinned when it was added."""
    again = "install cxrsynth again; the package was not unpacked whole"
    for name, pinned in json.loads(pins.read_text())["files"].items():
        path = folder / name
        if not path.exists():
            raise MissingError(f"the bundled model '{folder.name}' lacks {name}", again)
        if hash_of(path) != pinned:
            raise MissingError(f"{name} of the bundled model '{folder.name}' is not the file that was pinned", again)


def pin(folder: Path) -> dict[str, dict[str, str]]:
    """What ``<name>.sha256.json`` says for a model folder."""
    return {"files": {str(path.relative_to(folder)): hash_of(path) for path in parts_of(folder)}}


def write_pins(name: str) -> Path:
    """Pin the files of a model folder and of its auxiliary as they are now; done once, when one of them is added."""
    path = MODELS / f"{name}.sha256.json"
    beside = {file.name: hash_of(file) for file in sorted(MODELS.glob(f"{name}.*.safetensors"))}
    write_atomic(path, dumps({**pin(MODELS / name), "auxiliary": beside}))
    return path


def digest(folder: Path) -> str:
    """sha256 over the names and sha256 of the files of a model; another place on disk changes nothing."""
    total = hashlib.sha256()
    for path in parts_of(folder):
        total.update(f"{path.relative_to(folder).as_posix()} {hash_of(path)}\n".encode())
    return total.hexdigest()


def parts_of(folder: Path) -> list[Path]:
    """All files that can change an image, sorted by name."""
    inside = [folder / "model_index.json", *(path for part in parts(folder) for path in (folder / part).rglob("*"))]
    return sorted(path for path in inside if path.is_file() and not path.name.startswith(".") and path.suffix != ".md")


def hash_of(path: Path) -> str:
    """The sha256 of a file; read once as long as its time and size stay."""
    stat = path.stat()
    return _hash(str(path.resolve()), stat.st_mtime_ns, stat.st_size)


@cache
def _hash(path: str, mtime: int, size: int) -> str:
    return file_sha256(Path(path))


def licence(folder: Path) -> str:
    """The ``license`` line of the model card's head, empty without one."""
    card = folder / "README.md"
    text = "" if trouble(card) else card.read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^license:\s*(\S.*)$", text, re.M)
    return found.group(1).strip().strip("\"'") if found else ""
