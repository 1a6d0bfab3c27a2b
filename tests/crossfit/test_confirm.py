"""Images whose findings a classifier of another fold does not confirm are left out; findings are made equally many."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cxrsynth.cli import app
from cxrsynth.crossfit.confirm import ConfirmConfig, confirm, origin, unconfirmed
from cxrsynth.crossfit.folds import Folds
from cxrsynth.data.documents import read_json
from cxrsynth.data.patients import patient_id
from cxrsynth.errors import UsageError
from cxrsynth.factory.balance import BalanceConfig, balance
from cxrsynth.factory.verify import verify
from cxrsynth.nets.network_folder import own_config
from cxrsynth.records import Entry
from cxrsynth.store import Store
from tests.train.test_classify import ENCODER, make

TRAIN = {"encoder": ENCODER, "labels": ["AP", "effusion"], "size": 32, "batch": 4, "updates": 2, "warmup": 1}
CONFIG = ConfirmConfig.model_validate({"folds": 2, "train": TRAIN})
KINDS = ("pneumonia",) * 5 + ("effusion",) * 3 + ("no finding",) * 4 + ("pneumonia, effusion",)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("data") / "real", images=48)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("data") / "generated", images=16, source="generated")


@pytest.fixture(scope="module")
def confirmed(real: Path, generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "confirmed"
    confirm(generated, out, CONFIG, real, "cpu")
    return out


def division(real: Path) -> Folds:
    names = [patient_id(row) for row in Store(real).rows() if row["split"] == "train"]
    return Folds(names, CONFIG.folds, CONFIG.seed)


def threshold(real: Path, out: Path, row: dict[str, Any]) -> float:
    fold = division(real).of(origin(row, own=False))
    return float(own_config(out / f"folds/{fold}/model")["thresholds"]["effusion"])


def test_what_stays_reaches_the_threshold_of_its_fold_and_what_goes_does_not(real: Path, confirmed: Path) -> None:
    store = Store(confirmed)
    left_out = list(store.rejects())
    for row in [*store.rows(), *left_out]:
        seen = row["scores"]["probability.effusion"] >= threshold(real, confirmed, row) - 1e-5
        said = row["findings"] == "effusion"
        assert (seen == said) == ("reason" not in row)
    assert {row["reason"] for row in left_out} <= {"unconfirmed.effusion", "unconfirmed.no_finding"}


def test_the_confirmed_images_are_a_dataset_that_verifies(confirmed: Path) -> None:
    assert [problem.what for problem in verify(confirmed)] == []


def test_a_classifier_has_not_seen_the_patients_of_its_fold(real: Path, confirmed: Path) -> None:
    folds = division(real)
    for fold in range(CONFIG.folds):
        seen = read_json(confirmed / f"folds/{fold}/model/patients.json")["train"]
        assert seen
        assert all(folds.of(name) != fold for name in seen)


def test_an_image_goes_where_the_patient_of_its_text_was_not_learned_from() -> None:
    theirs = patient_id({"key": "k", "source": "clinic", "patient": "p3"})
    assert origin({"key": "000000001", "fields": {"source": "clinic", "patient": "p3"}}, own=False) == theirs
    assert origin({"key": "000000001", "source": "generated"}, own=False) == "generated/000000001"


def test_images_without_real_ones_are_cross_fitted(generated: Path, tmp_path: Path) -> None:
    typed = ["confirm", generated, "-o", tmp_path / "out", "--labels", "effusion", "--folds", 2, "--encoder", ENCODER]
    typed += ["--updates", 1, "--size", 32, "--set", "train.warmup=1", "--device", "cpu", "--json"]
    result = CliRunner().invoke(app, [*map(str, typed)], catch_exceptions=False)
    told = json.loads(result.stdout)
    assert told["kept"] + sum(told["left_out"].values()) == told["images"] == 16


@pytest.mark.parametrize(
    ("truth", "chances", "reason"),
    [
        ((1, 0), (0.9, 0.9), ""),  # the other finding is not denied by a prompt that names one
        ((1, 1), (0.9, 0.4), "unconfirmed.effusion"),
        ((1, np.nan), (0.4, 0.9), "unconfirmed.pleural_thickening"),
        ((0, 0), (0.4, 0.4), ""),
        ((0, 0), (0.4, 0.6), "unconfirmed.no_finding"),
        ((0, np.nan), (0.4, 0.6), ""),  # unknown is no no
    ],
)
def test_every_finding_has_to_be_seen_and_nothing_where_none_is_said(
    truth: tuple[float, ...], chances: tuple[float, ...], reason: str
) -> None:
    found = unconfirmed(["pleural thickening", "effusion"], np.array(truth), np.array(chances), np.array([0.5, 0.5]))
    assert found == reason


def test_labels_of_which_none_is_a_finding_are_refused() -> None:
    with pytest.raises(ValueError, match="name the findings"):
        ConfirmConfig.model_validate({"train": {**TRAIN, "labels": ["AP"]}})


def counted(root: Path) -> Path:
    """Images of `KINDS`, and two of another split."""
    store = Store(root)
    (root / "shards").mkdir(parents=True)
    store.write("classes.json", b'{"classes": [{"id": 1, "name": "lung", "phrase": "lung"}]}')
    rows = [
        {"key": f"{i:03d}", "prompt": f"Chest X-ray. Findings: {kind}.", "split": "train" if i < len(KINDS) else "val"}
        for i, kind in enumerate((*KINDS, "pneumonia", "pneumonia"))
    ]
    entries = [Entry(row, np.full((8, 8), i, np.uint8)) for i, row in enumerate(rows)]
    store.write_shard(0, entries, fingerprint="kinds", planned=[row["key"] for row in rows])
    return root


def test_every_finding_has_as_many_images_as_every_other(tmp_path: Path) -> None:
    out = tmp_path / "balanced"
    config = BalanceConfig(labels=("pneumonia", "effusion"))
    derived = balance(counted(tmp_path / "all"), out, config)
    left = [row["prompt"] for row in Store(out).rows() if row["split"] == "train"]
    kinds = [prompt.partition("Findings: ")[2].rstrip(".") for prompt in left]
    # Four effusions, of which one with pneumonia: effusion is the rarer.
    assert [sum(kind == one for kind in kinds) for one in ("pneumonia", "no finding")] == [4, 4]
    assert sum("effusion" in kind for kind in kinds) == 4
    assert derived.left_out() == {"balance.pneumonia": 1}
    assert sum(row["split"] == "val" for row in Store(out).rows()) == 2
    assert not list(verify(out))


def test_a_finding_that_no_image_shows_cannot_be_balanced(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="shows nodule"):
        balance(counted(tmp_path / "all"), tmp_path / "out", BalanceConfig(labels=("pneumonia", "nodule")))
    assert not (tmp_path / "out").exists()
