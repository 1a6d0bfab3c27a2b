"""From reports to words."""

import pytest

from cxrsynth.data.config import WordConfig
from cxrsynth.data.reports import sections, words

REPORT = """EXAMINATION: Chest, two views.
Comparison: none.
FINDINGS: The lungs are clear.
No effusion.
IMPRESSION: Normal chest."""


def test_sections_come_in_the_wanted_order_without_headings() -> None:
    assert sections(REPORT, ["impression", "findings"]) == "Normal chest. The lungs are clear. No effusion."
    assert sections(REPORT, ["Findings"]) == "The lungs are clear. No effusion."


def test_a_report_in_one_line_has_sections_too() -> None:
    assert sections("INDICATION: cough. FINDINGS: Clear. IMPRESSION: Normal.", ["impression"]) == "Normal."


@pytest.mark.parametrize(
    "text", ["Frontal chest X-ray, PA view. Findings: cardiomegaly.", "Clear lungs.", "Technique: AP portable."]
)
def test_a_text_without_the_wanted_sections_is_taken_whole(text: str) -> None:
    assert sections(text, ["impression", "findings"]) == text


def test_an_empty_section_does_not_hide_the_others() -> None:
    assert sections("FINDINGS: Clear.\nIMPRESSION:\n", ["impression", "findings"]) == "Clear."


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"age": 50.0, "sex": "F"}, "50-year-old woman. Clear."),
        ({"age": None, "sex": "M"}, "man. Clear."),
        ({"age": 6, "sex": "", "population": "pediatric"}, "6-year-old patient. Clear."),
        ({}, "Clear."),
        ({"age": "unknown"}, "Clear."),
    ],
)
def test_the_person_stands_in_front_as_far_as_it_is_known(row: dict[str, object], said: str) -> None:
    assert words({**row, "prompt": "Clear."}, WordConfig(person=True)) == said


def test_a_person_alone_is_no_report() -> None:
    assert words({"age": 50.0, "sex": "F", "prompt": ""}, WordConfig(person=True)) == ""
