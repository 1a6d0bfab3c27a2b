"""Labels of synthetic images against a network, and what curation scores tell about it."""

import json
from pathlib import Path

import numpy as np
import pytest

from cxrsynth.errors import UsageError
from cxrsynth.evaluate.agreement import Agreement, agreement, records, spearman
from cxrsynth.evaluate.chains import load_chains
from tests.labeller import by_tone
from tests.train.chests import make

SCORES = [{"stability.heart": i / 10, "uncertainty.heart": 1 - i / 10} for i in range(10)]


def image(dice: float) -> dict[str, dict[str, float]]:
    return {"heart": {"dice": dice, "iou": dice, "hd95": 1.0, "nsd": dice}}


def test_labels_that_the_network_gives_too_agree_wholly(tmp_path: Path) -> None:
    generated = make(tmp_path / "generated", rows={i: {"scores": {"stability.heart": 0.5}} for i in range(8)})
    found = agreement(generated, by_tone(), {})
    assert len(found.images["own"]) == 8
    assert np.mean([one["right_lung"]["dice"] for one in found.images["own"]]) > 0.9


def test_every_chain_is_tried_on_the_same_maps(phantom_dataset: Path, tmp_path: Path) -> None:
    body = {"raw": {"refine": []}, "blind": {"normalise": {"use": "joint", "presence": 1.0}, "refine": []}}
    (tmp_path / "chains.yaml").write_text(json.dumps({"chains": body}))
    found = agreement(phantom_dataset, by_tone(), load_chains(tmp_path / "chains.yaml", phantom_dataset))
    means = {name: np.mean([one["right_lung"]["dice"] for one in images]) for name, images in found.images.items()}
    assert means["blind"] == 0 < means["raw"]
    assert {len(images) for images in found.images.values()} == {6}


def test_a_network_of_other_classes_is_refused(phantom_dataset: Path) -> None:
    with pytest.raises(UsageError, match="none of the classes aorta"):
        agreement(phantom_dataset, by_tone(("aorta",)), {})


def test_a_score_that_orders_images_as_agreement_does_correlates_wholly() -> None:
    found = Agreement({"own": [image(0.5 + i / 20) for i in range(10)]}, SCORES)
    made = {(one["arm"], one["metric"]): one for one in records(found, "generated")}
    assert made["stability", "spearman"]["value"] == pytest.approx(1)
    assert made["uncertainty", "spearman"]["value"] == pytest.approx(-1)
    assert made["stability", "spearman"]["dataset"] == "generated:rank"
    assert ("presence", "spearman") not in made  # nobody wrote it


def test_the_rank_correlation_does_not_care_for_the_scale_and_knows_ties() -> None:
    x = np.array([1.0, 2, 2, 4])
    assert spearman(np.stack([x, np.exp(x)], axis=1)) == pytest.approx(1)
    assert np.isnan(spearman(np.stack([x, np.ones(4)], axis=1)))
