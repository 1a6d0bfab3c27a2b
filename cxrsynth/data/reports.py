"""From a report to the words a model reads: sections picked, the person in front, and what does not fit counted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cxrsynth.data.config import WordConfig
from cxrsynth.errors import RecipeError
from cxrsynth.nets.bundle import Tokenizer
from cxrsynth.records import Row

# A heading is one to four words and a colon, at the start of a line, or anywhere in capitals. A caption such as
# "Frontal chest X-ray. Findings: effusion." has none.
HEADING = re.compile(r"(?:^[ \t]*([A-Za-z][A-Za-z ]{2,30}?)|(?<![A-Za-z])([A-Z][A-Z ]{2,30}?))[ \t]*:", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cut:
    """What the encoder's limit takes away.

    Attributes:
        captions: all of them.
        cut: those that are longer than the limit.
        tokens: that are lost, over all captions.
        limit: tokens the encoder reads, begin and end included.
    """

    captions: int
    cut: int
    tokens: int
    limit: int


def sections(report: str, wanted: Sequence[str]) -> str:
    """The wanted parts of a report in the wanted order, without their headings.

    A text that has none of them is taken whole: it is a caption, not a report.

    Args:
        wanted: headings in any case, ``("impression", "findings")``; empty takes the whole text.
    """
    found: dict[str, str] = {}
    places = list(HEADING.finditer(report))
    for i, place in enumerate(places):
        end = places[i + 1].start() if i + 1 < len(places) else len(report)
        name = place.group(1) or place.group(2)
        found.setdefault(" ".join(name.lower().split()), report[place.end() : end])
    parts = [found[name.lower()] for name in wanted if found.get(name.lower(), "").strip()]
    return " ".join(" ".join(parts or [report]).split())


def person(row: Row) -> str:
    """``50-year-old woman.``, as far as age and sex are known; empty otherwise."""
    child = row.get("population") == "pediatric"
    noun = {"M": "boy" if child else "man", "F": "girl" if child else "woman"}.get(str(row.get("sex") or ""), "")
    try:
        age = f"{int(float(row['age']))}-year-old" if row.get("age") not in (None, "") else ""
    except ValueError:
        age = ""
    said = " ".join(part for part in (age, noun or ("patient" if age else "")) if part)
    return f"{said}." if said else ""


def words(row: Row, config: WordConfig) -> str:
    """What the model reads to an image; empty where nothing is known."""
    text = sections(str(row.get(config.column) or ""), config.sections)
    return " ".join(part for part in (person(row) if config.person and text else "", text) if part)


def lengths(tokenizer: Tokenizer, texts: Sequence[str]) -> np.ndarray:
    """(N,) tokens of each text, begin and end included, nothing cut."""
    return np.array([len(ids) for ids in tokenizer(list(texts), truncation=False).input_ids], int)


def count_cut(tokenizer: Tokenizer, texts: Sequence[str], long: str) -> Cut:
    """How much does not fit.

    Raises:
        RecipeError: something does not fit and ``long`` is ``refuse``; the longest text is named.
    """
    limit = int(tokenizer.model_max_length)
    sizes = lengths(tokenizer, texts)
    over = np.flatnonzero(sizes > limit)
    if len(over) and long == "refuse":
        worst = int(over[np.argmax(sizes[over])])
        raise RecipeError(
            f"{len(over)} of {len(texts)} captions are over {limit} tokens, the longest has {sizes[worst]}: "
            f"'{texts[worst][:60]}...'",
            "type --set words.long=cut to lose what is beyond, or keep fewer words.sections",
        )
    return Cut(len(texts), len(over), int((sizes[over] - limit).sum()), limit)


def unknown_only(tokenizer: Tokenizer, text: str) -> bool:
    """Whether not one token of a text means anything to the encoder.

    A byte-level tokenizer (CLIP's) knows every text; a word-piece one (BERT's) has a token for what it does not know.
    """
    unknown = tokenizer.unk_token_id
    found = tokenizer(text, add_special_tokens=False).input_ids
    marks = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, unknown}
    return not found or (unknown is not None and all(token in marks for token in found))
