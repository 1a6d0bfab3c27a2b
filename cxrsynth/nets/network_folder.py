"""The folder of a trained network, whatever it answers: weights, how they were made, and what validation said.

DIR/model.safetensors   weights, float32
DIR/config.json         architecture, size, and how it was trained, under `OURS`; what its library wants stands on top
DIR/metrics.json        what validation said
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cxrsynth.data.documents import read_json
from cxrsynth.encoding import dumps, file_sha256
from cxrsynth.errors import CxrError, MismatchError, MissingError, UsageError

OURS = "_cxrsynth"
AGAIN = "copy the folder again, or train again"


def save(
    folder: Path,
    network: nn.Module,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    outside: Mapping[str, Any] | None = None,
) -> None:
    """Write weights, config and metrics into a new folder.

    Args:
        network: its ``body`` is what is written.
        outside: what the library behind the network wants to find in ``config.json``.
    """
    folder.mkdir(parents=True)
    weights = folder / "model.safetensors"
    body: Any = network.body
    save_file({name: value.detach().cpu().contiguous() for name, value in body.state_dict().items()}, weights)
    (folder / "metrics.json").write_bytes(dumps(metrics))
    ours = {**config, "sha256": file_sha256(weights)}
    (folder / "config.json").write_bytes(dumps({**(outside or {}), OURS: ours}))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a network's body; those of older folders carry a prefix."""
    state: dict[str, Tensor] = load_file(path)
    return {name.removeprefix("body."): value for name, value in state.items()}


def locate(folder: Path, what: str = "segmentation network", command: str = "train-seg") -> Path:
    """The folder that holds the network: the one given, or ``model`` in a run folder.

    Args:
        what: is looked for, and the command that makes one; for the error.

    Raises:
        MissingError: neither does.
    """
    for place in (folder, folder / "model"):
        if (place / "config.json").is_file() and (place / "model.safetensors").is_file():
            return place
    raise MissingError(
        f"{folder} holds no trained {what} (config.json, model.safetensors)",
        f"train one: cxrsynth {command} --data DATASET -o {folder}",
    )


def own_config(place: Path) -> dict[str, Any]:
    """What this package wrote into ``config.json``.

    Raises:
        MismatchError: it is damaged.
    """
    path = place / "config.json"
    try:
        config = read_json(path)
    except UsageError as error:
        raise MismatchError(error.message, AGAIN) from error
    own = config.get(OURS, config) if isinstance(config, dict) else None  # older folders hold nothing else
    if not isinstance(own, dict):
        raise MismatchError(f"{path} describes no network", AGAIN)
    return own


@contextmanager
def built(place: Path) -> Iterator[None]:
    """Turn what building a network from a config that does not fit its weights raises into an error that names it.

    Raises:
        MismatchError: instead of it.
    """
    try:
        yield
    except CxrError:
        raise
    except Exception as error:  # four libraries take part
        raise MismatchError(f"the network in {place} cannot be built: {error}", AGAIN) from error


def read_config(folder: Path, keys: Collection[str], what: str, command: str) -> tuple[Path, dict[str, Any]]:
    """The place of a trained network and its ``config.json``, both checked.

    Args:
        keys: that only a config of this kind has.

    Raises:
        MissingError: there is none.
        MismatchError: it is of another kind, or the weights are not those the config was written with.
    """
    place = locate(folder, what, command)
    config = own_config(place)
    if not {*keys, "sha256"} <= set(config):
        path = place / "config.json"
        raise MismatchError(f"{path} is not of a {what}", f"name a folder of {command}")
    if file_sha256(place / "model.safetensors") != config["sha256"]:
        path = place / "model.safetensors"
        raise MismatchError(f"{path} was changed since it was trained", AGAIN)
    return place, config
