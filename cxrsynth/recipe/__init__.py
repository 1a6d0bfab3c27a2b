"""The recipe: what to make, in YAML.

An entry such as ``{use: crf, iterations: 5}`` becomes ``Crf(iterations=5)``: the config is the constructor, so a typo
is an error when the recipe is loaded and the resolved recipe shows every value.
"""

from cxrsynth.recipe.classes import ClassSpec
from cxrsynth.recipe.entry import Entry, explain, resolve_entry
from cxrsynth.recipe.file import assign, bundled_recipes, find, load, parse, put, read
from cxrsynth.recipe.identity import fingerprint, identity, masks_identity
from cxrsynth.recipe.model import AttentionSpec, Recipe, Sampler, key

__all__ = [
    "AttentionSpec",
    "ClassSpec",
    "Entry",
    "Recipe",
    "Sampler",
    "assign",
    "bundled_recipes",
    "explain",
    "find",
    "fingerprint",
    "identity",
    "key",
    "load",
    "masks_identity",
    "parse",
    "put",
    "read",
    "resolve_entry",
]
