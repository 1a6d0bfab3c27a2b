"""A dataset of real images with simulated findings is an ordinary dataset: same bytes, resumable, honest."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cxrsynth.cli import app
from cxrsynth.domain.atlas import open_atlas
from cxrsynth.encoding import dumps
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.factory.carriers import find
from cxrsynth.factory.simulate import Result, simulate_dataset
from cxrsynth.factory.simulation import Simulation
from cxrsynth.factory.verify import verify
from cxrsynth.records import Entry, Row
from cxrsynth.store import Store
from tests.conftest import tree

CLASSES = {"right_lung": 1, "left_lung": 2, "heart": 3}


def make_carriers(root: Path, **changes: object) -> Path:
    """Six images made of label maps: four normal ones, one with an effusion, one of which nothing is known."""
    store, atlas = Store(root), open_atlas("wingspan")
    listed = [{"id": number, "name": name, "phrase": name.replace("_", " ")} for name, number in CLASSES.items()]
    store.write("classes.json", dumps({"classes": listed}))
    entries = []
    for number, said in enumerate(["normal"] * 4 + ["effusion", ""]):
        mask = atlas.load(atlas.keys[number])
        grain = np.random.default_rng(number).normal(0, 6, mask.shape)
        image = np.choose(mask, [170.0, 80.0, 84.0, 200.0]) + grain
        row: Row = {
            "key": f"image-{number}", "prompt": f"Frontal chest X-ray, PA view. Findings: {said}.", "findings": said,
            "split": ("train", "val")[number % 2], "source": "clinic", "patient": f"p{number}", "use": "open",
            "mask_use": "train", "mask_classes": list(CLASSES), "licence": "CC-BY-4.0", **changes,
        }  # fmt: skip
        entries.append(Entry(row, image.clip(0, 255).astype(np.uint8), mask))
    store.write_shard(0, entries, fingerprint="0" * 64, planned=[entry.row["key"] for entry in entries])
    return root


@pytest.fixture(scope="module")
def carriers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_carriers(tmp_path_factory.mktemp("carriers") / "d")


def run(carriers: Path, out: Path, *findings: str, count: int = 3, **settings: object) -> Result:
    simulation = Simulation(findings=findings or ("effusion",), **settings)  # type: ignore[arg-type]
    return simulate_dataset(find(carriers), out, simulation, count)


def test_verify_finds_nothing_wrong_with_it_and_what_was_changed(carriers: Path, tmp_path: Path) -> None:
    run(carriers, tmp_path / "d", count=3)
    assert not list(verify(tmp_path / "d"))
    recipe = tmp_path / "d/recipe.yaml"
    recipe.write_text(recipe.read_text().replace("seed: 0", "seed: 1"))
    assert [problem.path for problem in verify(tmp_path / "d")] == ["recipe.yaml"]


def test_a_row_says_what_is_simulated_in_which_image_with_whose_lungs(carriers: Path, tmp_path: Path) -> None:
    run(carriers, tmp_path / "d", "effusion+nodule")
    for row in Store(tmp_path / "d").rows():
        assert set(row["simulated"]) == {"effusion", "nodule"}
        assert row["lungs_from"] == "human"
        assert row["carrier"] in {f"image-{number}" for number in range(4)}
        assert row["prompt"].endswith(f"Findings: {row['findings']}.")
        assert "effusion" in row["findings"]
        assert "nodule" in row["findings"]


def test_an_image_with_the_finding_is_no_carrier(carriers: Path) -> None:
    keys = {find(carriers).rows[place]["key"] for place in find(carriers).without(["effusion"])}
    assert keys == {f"image-{number}" for number in range(4)}


def test_the_same_command_gives_the_same_bytes(carriers: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(carriers, tmp_path / name / "d")
    assert tree(tmp_path / "a/d") == tree(tmp_path / "b/d")


def test_a_larger_count_keeps_every_image(carriers: Path, tmp_path: Path) -> None:
    run(carriers, tmp_path / "d", count=2)
    before = {row["key"]: Store(tmp_path / "d").load_image(row) for row in Store(tmp_path / "d").rows()}
    result = run(carriers, tmp_path / "d", count=4)
    assert result.made == 4
    for row in list(Store(tmp_path / "d").rows())[:2]:
        assert np.array_equal(Store(tmp_path / "d").load_image(row), before[row["key"]])


def test_the_same_command_makes_nothing_again(carriers: Path, tmp_path: Path) -> None:
    run(carriers, tmp_path / "d")
    assert run(carriers, tmp_path / "d").skipped == 3


def test_another_recipe_in_the_same_folder_is_refused(carriers: Path, tmp_path: Path) -> None:
    run(carriers, tmp_path / "d")
    with pytest.raises(MismatchError, match="another dataset"):
        run(carriers, tmp_path / "d", "nodule")


def test_layers_hold_the_finding_and_the_whole_lung_below_it(carriers: Path, tmp_path: Path) -> None:
    run(carriers, tmp_path / "d")
    store = Store(tmp_path / "d")
    for row in store.rows():
        right, left, _, effusion = store.load_layers(row, 4)  # type: ignore[misc]
        mask = store.load_mask(row)
        assert mask is not None
        assert effusion.any()
        assert not (effusion & ~(right | left)).any()
        assert (mask[effusion] == 4).all()


def test_the_region_decides_side_and_zone(carriers: Path, tmp_path: Path) -> None:
    run(carriers, tmp_path / "d", "opacity", region="left lower zone")
    for row in Store(tmp_path / "d").rows():
        assert list(row["simulated"]["opacity"]["zones"]) == ["left"]
        assert "lower" in row["simulated"]["opacity"]["zones"]["left"]


def test_images_without_a_finding_say_so_and_have_empty_layers(carriers: Path, tmp_path: Path) -> None:
    run(carriers, tmp_path / "d", none=1.0)
    store = Store(tmp_path / "d")
    for row in store.rows():
        assert row["findings"] == "no finding"
        assert not store.load_layers(row, 4)[3].any()  # type: ignore[index]


def test_a_carrier_that_cannot_carry_is_listed_with_its_reason(carriers: Path, tmp_path: Path) -> None:
    # No heart of a label map can be made a hundred times as wide as allowed.
    result = run(carriers, tmp_path / "d", "cardiomegaly", settings={"cardiomegaly": {"ratio": [0.97, 0.98]}})
    assert result.made == 0
    assert result.rejected == {"carrier.cardiomegaly": 24}
    assert all(row["why"] for row in Store(tmp_path / "d").rejects())


@pytest.mark.parametrize(
    ("simulation", "words"),
    [
        ({"findings": ("efusion",)}, "unknown finding 'efusion'"),
        ({"findings": ("effusion+pneumothorax",)}, "exclude each other"),
        ({"findings": ("opacity",), "region": "heart"}, "outside the lungs"),
        ({"findings": ("opacity",), "region": "the knee"}, "names no place"),
        ({"findings": ("cardiomegaly",), "region": "left lung"}, "has no side"),
        ({"findings": ("effusion",), "region": "left upper zone"}, "no single zone"),
        ({"findings": ("effusion",), "settings": {"effusion": {"severe": 1}}}, "known here"),
        ({"findings": ("effusion",), "settings": {"nodule": {}}}, "not asked for"),
        ({"findings": ("opacity", "nodule", "mass", "effusion", "cardiomegaly", "pneumothorax")}, "more than the 5"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(simulation: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Simulation(**simulation).check()  # type: ignore[arg-type]


def test_images_without_masks_of_the_lungs_are_refused_with_the_command_that_makes_them(tmp_path: Path) -> None:
    bare = make_carriers(tmp_path / "d", mask_use="benchmark")
    with pytest.raises(UsageError) as caught:
        find(bare)
    assert "cxrsynth annotate" in caught.value.hint


def test_test_images_are_no_carriers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no finished image"):
        find(make_carriers(tmp_path / "d", use="test"))


def test_the_card_says_that_findings_are_simulated(carriers: Path, tmp_path: Path) -> None:
    arguments = ["simulate", str(carriers), "-o", str(tmp_path / "d"), "--finding", "effusion", "-n", "2"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "simulated findings" in (tmp_path / "d/README.md").read_text()
    assert (tmp_path / "d/before-after.png").exists()
