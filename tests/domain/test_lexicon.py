"""Captions and tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer, CLIPTokenizer

from cxrsynth.data.captions import caption, corpus
from cxrsynth.data.config import CaptionConfig
from cxrsynth.domain.lexicon import affirmed, found, is_normal
from cxrsynth.nets.config import TextConfig
from cxrsynth.nets.taps import class_text, token_columns
from cxrsynth.nets.text import build_encoder, build_tokenizer, ids

ROW: dict[str, Any] = {
    "prompt": "Frontal chest X-ray, PA view, of a 37-year-old man. "
    "Findings: pulmonary tuberculosis in the right upper field.",
    "view": "PA", "sex": "M", "age": 37.0, "population": "adult", "findings": "tuberculosis",
}  # fmt: skip
CHILD: dict[str, Any] = {
    "prompt": "Frontal chest X-ray, AP view, of a young child. Findings: no abnormality.",
    "view": "AP", "sex": "", "age": None, "population": "pediatric", "findings": "normal",
}  # fmt: skip
TEXT = TextConfig(vocabulary=700, width=16, layers=1, heads=2)


def many(row: dict[str, Any], count: int = 200) -> list[str]:
    rng = np.random.default_rng(0)
    return [caption(row, rng, CaptionConfig()) for _ in range(count)]


def test_captions_of_an_image_differ_and_all_words_get_their_turn() -> None:
    captions = many(ROW)
    assert len(set(captions)) > 80
    for word in ("PA view", "37-year-old", "male", "right upper", "left lung", "heart"):
        assert any(word in text for text in captions), word


def test_captions_never_say_what_the_row_does_not() -> None:
    for text in many(ROW):
        assert "AP view" not in text
        assert "woman" not in text
        assert "left upper" not in text
    for text in many(CHILD):
        assert "adult" not in text.lower()
        assert "pneumonia" not in text


def test_tokens_survive_saving_and_know_their_places(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(corpus([ROW, CHILD]), TEXT)
    tokenizer.save_pretrained(tmp_path)
    text = class_text(["right lung", "left lung", "heart"])
    for again in (CLIPTokenizer.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        assert again(ROW["prompt"]).input_ids == tokenizer(ROW["prompt"]).input_ids
        assert token_columns(again, text, ["right lung", "left lung", "heart"]) == [[1, 2], [4, 5], [7]]


def test_any_text_has_tokens_also_in_other_scripts() -> None:
    tokenizer = build_tokenizer(corpus([ROW]), TEXT)
    text = "Röntgen thorax 肺 ☢"
    body = tokenizer(text).input_ids[1:-1]
    assert tokenizer.eos_token_id not in body
    assert len(body) > 3


def test_the_vocabulary_does_not_depend_on_the_run() -> None:
    first, second = (build_tokenizer(corpus([ROW, CHILD]), TEXT).get_vocab() for _ in range(2))
    assert first == second


def test_prompts_are_padded_to_the_encoders_length() -> None:
    tokenizer = build_tokenizer(corpus([ROW]), TEXT)
    tokens = ids(tokenizer, ["heart", "word " * 300])
    assert tokens.shape == (2, 77)
    assert build_encoder(tokenizer, TEXT)(tokens).last_hidden_state.shape == (2, 77, 16)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no effusion or opacity", set()),
        ("No pleural effusion, opacity, or nodule.", set()),
        ("no effusion, opacity or nodule, cardiomegaly", {"cardiomegaly"}),
        ("no effusion, opacity in the left or right lung", {"opacity"}),
        ("no effusion, opacity", {"opacity"}),
        ("opacity without effusion", {"opacity"}),
        ("Free of effusion. Nodule.", {"nodule"}),
        ("no effusion but an opacity", {"opacity"}),
        ("no focal opacity and no effusion", set()),
        ("no change of the effusion", {"effusion"}),
        ("effusions", set()),
    ],
)
def test_a_denial_reaches_all_that_it_lists_and_no_further(text: str, said: set[str]) -> None:
    assert {word for word in ("effusion", "opacity", "nodule", "cardiomegaly") if affirmed(word, text)} == said


def test_an_image_without_an_abnormality_is_normal() -> None:
    assert is_normal("Findings: no abnormality.")
    assert not is_normal("Findings: effusion.")


@pytest.mark.parametrize(
    ("text", "label", "has"),
    [
        ("dense patchy opacities in the left lower zone", "opacity", True),
        ("two masses", "mass", True),
        ("no effusions or nodules", "nodule", False),
    ],
)
def test_several_of_a_finding_are_the_finding(text: str, label: str, has: bool) -> None:
    assert found(text, label) is has
