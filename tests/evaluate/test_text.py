"""The probe of a text encoder, on texts whose answer is known."""

from pathlib import Path

import numpy as np
import pytest

from cxrsynth.encoding import dumps
from cxrsynth.errors import UsageError
from cxrsynth.evaluate import text
from cxrsynth.evaluate.features import FeatureNet
from cxrsynth.records import Entry
from cxrsynth.store import Store


def captions(root: Path, images: int = 160, finding: str = "cardiomegaly") -> Path:
    """Images of one gray level; half show a finding, which makes them bright."""
    store = Store(root)
    store.write("classes.json", dumps({"classes": [{"id": 1, "name": "lung", "phrase": "lung"}]}))
    entries = []
    for number in range(images):
        sick = number % 2 == 0
        row = {
            "key": f"{number:03d}", "patient": f"p{number}", "source": "a", "use": "open", "view": "PA",
            "split": "train" if number < images // 2 else "test", "findings": finding if sick else "no finding",
            "prompt": f"Chest X-ray. Findings: {finding if sick else 'no abnormality'}.",
        }  # fmt: skip
        entries.append(Entry(row, np.full((64, 64), 200 if sick else 60, np.uint8)))
    store.write_shard(0, entries, fingerprint="images", planned=[entry.row["key"] for entry in entries])
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captions(tmp_path_factory.mktemp("data") / "images")


def test_a_probe_reads_the_words_it_has_learned(tiny: Path, data: Path) -> None:
    found = {(item["arm"], item["metric"]): item["value"] for item in text.probe(tiny, data)}
    assert found[("tiny", "auroc_same_words")] == 1.0
    assert found[("bag of words", "auroc_same_words")] == 1.0
    assert ("random weights", "auroc_other_words") in found


def test_a_finding_without_another_word_is_tested_in_its_own_only(tiny: Path, tmp_path: Path) -> None:
    found = text.probe(tiny, captions(tmp_path / "images", 80, "effusion"))
    assert {item["metric"] for item in found} == {"auroc_same_words"}  # "pleural effusion" still says effusion


def test_a_bag_of_words_knows_no_other_word() -> None:
    embed = text.bag_of_words(["effusion left", "normal"])
    assert embed(["left effusion effusion"]).tolist() == [[2, 1, 0]]
    assert not embed(["hydrothorax"]).any()


def test_other_words_say_the_same_thing() -> None:
    assert text.other_words("Findings: Cardiomegaly, edema.") == "Findings: large heart, pulmonary edema."
    assert text.other_words("no word of ours") == "no word of ours"


def test_padding_and_neighbours_in_the_batch_do_not_change_an_embedding(tiny: Path) -> None:
    embed = text.embedder(tiny)
    alone = embed(["heart"])
    together = embed(["heart", "frontal chest x-ray, PA view, adult, right lung, left lung, heart"])
    assert np.allclose(alone[0], together[0], atol=1e-5)
    assert not np.allclose(together[0], together[1], atol=1e-3)


def test_an_image_finds_its_caption_where_images_and_words_go_together(tiny: Path, data: Path) -> None:
    bright = FeatureNet("mean", "mean gray", lambda images: images.mean(axis=(1, 2), keepdims=False)[:, None])
    found = text.retrieval(tiny, data, bright)
    (rank,) = [item for item in found if item["arm"] == "tiny" and item["metric"] == "mean_rank_share"]
    assert rank["class"] == "2_captions"
    assert rank["value"] == 0.0


def test_ridge_finds_a_plane() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 3))
    fitted = text.ridge(x, x @ [1.0, -2.0, 0.5] + 3)
    new = rng.normal(size=(5, 3))
    assert np.allclose(fitted(new), new @ [1.0, -2.0, 0.5] + 3, atol=0.1)


def test_too_few_captions_are_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no label has 10"):
        text.probe(tiny, captions(tmp_path / "few", 16))
