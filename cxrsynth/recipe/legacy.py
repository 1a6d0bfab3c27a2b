"""Names of earlier versions, translated at the door: recipes, datasets and commands written with them keep working.

The only place that knows them. `fields` is asked by every configuration, `entry` by every entry of a chain, `arguments`
by the command line; `hashed_name` keeps fingerprints as they were, so that an older dataset can still be extended.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

# Field of a configuration -> what it is called now; the first name that the configuration has.
FIELDS = {
    "adapt": ("training",),
    "check_every": ("look_every",),
    "diffusion": ("training",),
    "films": ("labelled_images", "images"),
    "films_per_batch": ("images_per_batch",),
    "sheet_every": ("look_every",),
    "steps": ("updates",),
    "synthetic_films": ("synthetic_images",),
    "validate_every": ("look_every",),
    "validation_films": ("validation_images",),
}
# Fields that are gone and changed nothing that anyone would miss.
GONE = ("ema_power", "log_every")
# Kind and name of an entry -> its name.
ENTRIES = {("refiners", "decoder"): "mask_head"}
COMMANDS = {"train-decoder": "train-mask-head"}
OPTIONS = {"--films": "--images", "--worth": "--downstream"}
# The patients that a trained network has seen, beside its weights.
PATIENTS = "films.json"


def fields(body: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The values of a configuration under the names it has now.

    Args:
        known: the fields of the configuration.
    """
    found = dict(body)
    for old, names in FIELDS.items():
        new = next((name for name in names if name in known), None)
        if old in found and old not in known and new is not None:
            value = found.pop(old)
            # `--set films.size=256` on a recipe that says `images:` changes one value of it.
            both = isinstance(value, Mapping) and isinstance(found.get(new), Mapping)
            found[new] = {**found[new], **value} if both else value
    return {name: value for name, value in found.items() if name in known or name not in GONE}


def entry(kind: str, name: Any) -> Any:
    """The name of an entry as it is called now."""
    return ENTRIES.get((kind, name), name) if isinstance(name, str) else name


def hashed_name(body: Any) -> Any:
    """A resolved recipe or part of it with the entries' names as older fingerprints have them."""
    if isinstance(body, Mapping):
        old = {new: name for (_, name), new in ENTRIES.items()}
        return {
            key: old.get(value, value) if key == "use" and isinstance(value, str) else hashed_name(value)
            for key, value in body.items()
        }
    return [hashed_name(item) for item in body] if isinstance(body, list) else body


def arguments(words: list[str]) -> list[str]:
    """The words of a command line as they are written now."""
    translated = [COMMANDS.get(words[0], words[0]), *words[1:]] if words else []
    for i, word in enumerate(translated):
        name, equals, value = word.partition("=")
        translated[i] = OPTIONS.get(name, name) + equals + value
    return translated
