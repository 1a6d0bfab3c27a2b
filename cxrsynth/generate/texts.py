"""The texts that class maps are read from, where they are not read from the prompt.

Anatomy shares one text: its classes compete for a place. A class that lies over others has a text of its own, beside
"no finding": its map is its share of the two, and takes nothing from the anatomy.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch

from cxrsynth.nets.families.base import Model
from cxrsynth.nets.taps import NOTHING, KeySource, class_text, column_weights, finding_text


def class_sources(
    model: Model,
    phrases: Mapping[str, str],
    overlapping: Collection[str],
    device: torch.device,
    named: Sequence[Sequence[Sequence[int]]] = (),
) -> list[KeySource]:
    """The keys of all classes that no prompt names.

    Args:
        phrases: class -> its phrase, in the order of K.
        overlapping: names of the classes that lie over others.
        named: for each sample and class the tokens of its phrase in the prompt; empty where prompts are not read.

    Raises:
        RecipeError: the phrases are over the model's token limit.
    """
    names = list(phrases)
    together = [name for name in names if name not in overlapping]
    sources = []
    for group in filter(None, [together, *([name] for name in names if name in overlapping)]):
        alone = group[0] in overlapping
        own = [phrases[name] for name in group]
        text = finding_text(own[0]) if alone else class_text(own)
        model.check_tokens([text], what="the list of class phrases")
        *columns, nothing = model.columns(text, [*own, NOTHING])
        found = dict(zip(group, columns, strict=True))
        read = [found.get(name, []) for name in names]
        rest = [[[] if taken[k] else read[k] for k in range(len(names))] for taken in named] or [read]
        if not any(any(each) for each in rest):
            continue  # every prompt names these
        given = model.encode([text])
        tokens = given.states.shape[1]
        weights = torch.stack([column_weights(each, tokens) for each in rest]).to(device)  # (B or 1, T, K)
        other = torch.stack([column_weights([nothing if one else [] for one in each], tokens) for each in rest])
        against = other.to(device) if alone else None
        sources.append(KeySource(model.keys_from(given), weights, given.mask, against))
    return sources
