"""Images whose labels the networks of other folds do not confirm are found, said, and left out."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cxrsynth.cli import app
from cxrsynth.crossfit.folds import Folds
from cxrsynth.crossfit.prune import PruneConfig, prune, relative, worst
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.factory.verify import verify
from cxrsynth.records import Entry
from cxrsynth.store import Store
from tests.conftest import tree
from tests.train.chests import make
from tests.train.test_segment import ENCODER, stop_after

WRONG = ("002", "007")
TRAIN = {
    "encoder": ENCODER, "options": {"decoder_channels": [32, 16, 16, 8, 8]}, "size": 64, "batch": 4, "updates": 25,
    "warmup": 3, "lr": 3e-3,
}  # fmt: skip


def config(updates: int = 25, **changes: object) -> PruneConfig:
    return PruneConfig.model_validate({"folds": 2, "drop": 0.2, "train": {**TRAIN, "updates": updates}, **changes})


def exchange_sides(root: Path, keys: tuple[str, ...]) -> None:
    """Call the right lung left and the left one right."""
    store = Store(root)
    for receipt in list(store.receipts()):
        entries = []
        for row in [row for row in store.rows() if row["shard"] == receipt.shard]:
            mask = store.load_mask(row)
            assert mask is not None
            wrong = np.choose(mask, [0, 2, 1, 3]).astype(np.uint8)
            entries.append(Entry(row, store.load_image(row), wrong if row["key"] in keys else mask))
        store.write_shard(receipt.shard, entries, fingerprint=receipt.fingerprint, planned=receipt.planned)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make(tmp_path_factory.mktemp("data") / "generated", splits="tttttttttttttv", source="generated", per_shard=7)
    exchange_sides(root, WRONG)
    return root


@pytest.fixture(scope="module")
def pruned(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "pruned"
    prune(data, out, config(), "cpu")
    return out


def test_wrong_labels_are_left_out_and_say_why(pruned: Path) -> None:
    rejects = {row["key"]: row["reason"] for row in Store(pruned).rejects()}
    assert set(rejects) == set(WRONG)
    assert all(reason.startswith("disagreement.") for reason in rejects.values())
    assert (pruned / "dropped.png").exists()


def test_what_is_kept_is_as_it_was_but_for_its_scores(data: Path, pruned: Path) -> None:
    before = {row["key"]: row for row in Store(data).rows()}
    for row in Store(pruned).rows():
        scores = row.pop("scores")
        assert 0 <= scores["disagreement"] <= 1
        assert {"disagreement.right_lung", "disagreement.heart", "hardness"} <= set(scores)
        assert row == before[row["key"]]
    files = tree(data)
    assert all(
        files[name] == content for name, content in tree(pruned).items() if name.startswith(("images/", "masks/"))
    )


def test_the_result_is_a_dataset_that_verifies(pruned: Path) -> None:
    assert [problem.what for problem in verify(pruned)] == []


def test_a_change_under_the_seal_is_found(pruned: Path) -> None:
    body = json.loads((pruned / "derived.json").read_text())
    try:
        (pruned / "derived.json").write_text(json.dumps({**body, "planned": 3}))
        assert list(verify(pruned))
    finally:
        (pruned / "derived.json").write_text(json.dumps(body))


def test_a_second_call_writes_nothing(data: Path, pruned: Path) -> None:
    def times() -> dict[Path, int]:
        parts = [*pruned.glob("folds/*/model/*"), *pruned.glob("shards/*")]
        return {path: path.stat().st_mtime_ns for path in parts}

    before = times()
    prune(data, pruned, config(), "cpu")
    assert times() == before


def test_other_settings_in_the_same_folder_are_refused(data: Path, pruned: Path) -> None:
    with pytest.raises(MismatchError, match="holds other images"):
        prune(data, pruned, config(drop=0.5), "cpu")


def test_a_killed_command_goes_on_to_the_same_dataset(data: Path, tmp_path: Path) -> None:
    short = config(updates=2)
    with pytest.raises(KeyboardInterrupt):
        prune(data, tmp_path / "a", short, "cpu", stop_after(3))  # in the second fold
    for name in ("a", "b"):
        prune(data, tmp_path / name, short, "cpu")
    files = [{n: c for n, c in tree(tmp_path / name).items() if not n.startswith("folds/")} for name in ("a", "b")]
    assert files[0] == files[1]


def test_networks_relabel_what_they_have_not_seen(data: Path, tmp_path: Path) -> None:
    arguments = ["prune", data, "-o", tmp_path / "new", "--relabel", "--drop", 0, "--folds", 2, "--device", "cpu"]
    changes = [f"train.{name}={json.dumps(value)}" for name, value in {**TRAIN, "updates": 1}.items()]
    typed = [*map(str, arguments), *(word for change in changes for word in ("--set", change)), "--json"]
    result = CliRunner().invoke(app, typed, catch_exceptions=False)
    told = json.loads(result.stdout)
    assert (told["kept"], told["left_out"]) == (14, {})
    rows = list(Store(tmp_path / "new").rows())
    networks = {
        json.loads(path.read_text())["_cxrsynth"]["sha256"][:12]
        for path in tmp_path.glob("new/folds/*/model/config.json")
    }
    assert {row["mask_by"] for row in rows} == networks
    assert len(networks) == 2
    assert not list(verify(tmp_path / "new"))


def test_the_smallest_agreement_goes_first_and_ties_go_by_key() -> None:
    table = {"c": [0.5, 0.5], "a": [0.5, 0.5], "b": [0.9, None], "d": [None, None]}
    assert list(worst(table, ["lung", "heart"], 0.67)) == ["a", "c"]
    assert worst({"a": [0.9, 0.1], "b": [1.0, 1.0]}, ["lung", "heart"], 0.5) == {"a": "disagreement.heart"}


def test_hardness_is_relative_to_the_images_that_the_same_network_saw() -> None:
    weak = relative({"a": [0.2], "b": [0.6], "c": [None]})
    strong = relative({"d": [0.92], "e": [0.96]})
    assert weak == pytest.approx({"a": 4 / 3, "b": 2 / 3})
    assert strong == pytest.approx({"d": 4 / 3, "e": 2 / 3})
    assert relative({"f": [1.0]}) == {"f": 1.0}


def test_folds_are_of_equal_size_and_another_seed_makes_others() -> None:
    names = [f"clinic/p{i}" for i in range(30)]
    folds, again, other = Folds(names, 3, 0), Folds(reversed(names), 3, 0), Folds(names, 3, 1)
    assert sorted(folds.places.values()) == sorted([0, 1, 2] * 10)
    assert folds.places == again.places != other.places
    assert folds.of("elsewhere/p1") in (0, 1, 2)


def test_one_patient_cannot_be_divided(tmp_path: Path) -> None:
    rows = {i: {"patient": "p"} for i in range(4)}
    with pytest.raises(UsageError, match="too few patients"):
        prune(make(tmp_path / "one", splits="tttt", rows=rows), tmp_path / "out", config(), "cpu")
    assert not (tmp_path / "out").exists()
