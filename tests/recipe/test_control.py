"""The block ``control:``: what is imposed is decided in the Spec, is part of the fingerprint, and typos are errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrsynth.curate import build
from cxrsynth.errors import CxrError, MismatchError, RecipeError, UsageError
from cxrsynth.factory.plan import check_prompts, make_plan
from cxrsynth.factory.prompts import spec
from cxrsynth.factory.run import run
from cxrsynth.factory.shard import describe
from cxrsynth.masks.labels import Labelling, make_sample
from cxrsynth.recipe import Recipe, fingerprint, load, parse
from cxrsynth.records import Draw, Sample
from cxrsynth.store import Store
from tests import anatomies
from tests.conftest import CLASSES, latent_body, tree

OPACITY = {"name": "opacity", "id": 4, "phrase": "opacity", "optional": True, "overlap": True, "when": ["pneumonia"]}


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Any]:
    maps, net = anatomies.folder(tmp_path / "maps"), anatomies.network(tmp_path / "net.safetensors")
    return {"from": str(maps), "network": str(net)}


def body(anatomy: Any, pathology: list[dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    control = {"anatomy": anatomy, "pathology": pathology or []}
    return latent_body(Path("nowhere"), classes=[*CLASSES, OPACITY], control=control, **changes)


def recipe(*given: Any, **changes: Any) -> Recipe:
    return parse(body(*given, **changes))


def test_a_spec_says_all_that_is_imposed_and_says_the_same_again(parts: dict[str, Any]) -> None:
    one = recipe(parts, [{"finding": "pneumonia", "region": "left lower zone"}])
    imposed = spec(one, 3).control
    assert imposed is not None
    assert imposed["anatomy"]["key"] in ("0", "1", "2")
    assert imposed["findings"][0]["label"] == "opacity"
    assert imposed == spec(one, 3).control
    assert imposed != spec(one, 4).control


def test_another_attempt_keeps_the_anatomy_and_changes_the_noise(parts: dict[str, Any]) -> None:
    one = recipe(parts)
    assert spec(one, 0, 0).control == spec(one, 0, 1).control
    assert spec(one, 0, 0).seed != spec(one, 0, 1).seed


def test_one_more_finding_does_not_reshuffle_the_anatomies(parts: dict[str, Any]) -> None:
    bare = recipe(parts)
    more = recipe(parts, [{"finding": "pneumonia", "region": "left lower zone"}])
    assert [spec(bare, i).control["anatomy"] for i in range(5)] == [spec(more, i).control["anatomy"] for i in range(5)]  # type: ignore[index]


def test_the_ratios_asked_for_fill_their_range(parts: dict[str, Any]) -> None:
    one = recipe({**parts, "from": "wingspan", "deform": {"ctr": [0.4, 0.5]}})
    ratios = [spec(one, i).control["anatomy"]["ctr"] for i in range(60)]  # type: ignore[index]
    assert 0.4 <= min(ratios) < 0.42
    assert 0.48 < max(ratios) <= 0.5


def test_a_finding_is_there_as_often_as_asked_and_its_class_is_present_then(parts: dict[str, Any]) -> None:
    one = recipe(parts, [{"finding": "pneumonia", "region": "heart", "probability": 0.3}])
    specs = [spec(one, i) for i in range(200)]
    has = [bool(each.control and each.control["findings"]) for each in specs]
    assert 0.2 < np.mean(has) < 0.4
    assert [each.present["opacity"] for each in specs] == has


def test_the_fingerprint_covers_label_maps_and_network_by_content(parts: dict[str, Any], tmp_path: Path) -> None:
    before = fingerprint(recipe(parts), "")
    moved = anatomies.folder(tmp_path / "elsewhere")
    assert fingerprint(recipe({**parts, "from": str(moved)}), "") == before
    (moved / "2.png").unlink()
    assert fingerprint(recipe({**parts, "from": str(moved)}), "") != before
    net = tmp_path / "net.safetensors"
    net.write_bytes(net.read_bytes() + b" ")
    assert fingerprint(recipe(parts), "") != before


def test_a_control_folder_that_shrinks_between_runs_is_a_mismatch(
    parts: dict[str, Any], tiny: Path, tmp_path: Path
) -> None:
    one = parse({**body(parts, masks={"use": "control"}, count=2, shard=2), "model": str(tiny)})
    out = tmp_path / "out"
    run(make_plan(one, out, device="cpu"))
    before = tree(out)
    (tmp_path / "maps" / "1.png").unlink()
    with pytest.raises(MismatchError, match=r"control\.anatomy\.from"):
        make_plan(one, out, device="cpu")
    assert tree(out) == before


def test_a_dataset_keeps_the_imposed_masks_as_labels_layers_and_arrays(
    parts: dict[str, Any], tiny: Path, tmp_path: Path
) -> None:
    finding = {"finding": "pneumonia", "region": "left lung", "method": "inpaint"}
    made = body(parts, [finding], masks={"use": "control", "keep_maps": False}, count=2, shard=2)
    summary = run(make_plan(parse({**made, "model": str(tiny)}), tmp_path / "out", device="cpu"))
    store = Store(tmp_path / "out")
    assert not store.failures()
    assert summary.kept == 2
    rows = list(store.rows())
    assert len(rows) == 2
    for row in rows:
        imposed, layers, mask = store.load_maps(row), store.load_layers(row, 4), store.load_mask(row)
        assert imposed is not None
        assert layers is not None
        assert list(imposed) == ["control"]
        np.testing.assert_array_equal(imposed["control"], layers)
        assert mask is not None
        np.testing.assert_array_equal(mask == 4, layers[3])
        assert row["control"]["findings"][0]["finding"] == "pneumonia"


def drawn(agree: bool) -> Draw:
    """A draw whose maps are those of the imposed masks, or of swapped lungs."""
    mask = anatomies.chest(0.4)
    control = np.stack([mask == 1, mask == 2, mask == 3, np.zeros_like(mask, bool)])
    maps = control[[0, 1, 2, 3] if agree else [1, 0, 2, 3]].astype(np.float32) + 0.01
    return Draw(np.zeros(mask.shape, np.uint8), maps, control)


def labelled(one: Recipe, draw: Draw) -> Sample:
    return make_sample(draw, Labelling.from_recipe(one))


def test_agreement_of_imposed_and_attention_masks_is_a_score_and_a_check(parts: dict[str, Any]) -> None:
    finding = {"finding": "pneumonia", "region": "heart"}
    one = recipe(parts, [finding], masks={"use": "control", "refine": []}, curate={"checks": ["agreement"]})
    assert one.reads_attention()
    (check,) = build(one.curate.checks, list(one.class_ids()))
    good, bad = labelled(one, drawn(True)), labelled(one, drawn(False))
    assert good.scores["agreement.right_lung"] > 0.95 > 0.1 > bad.scores["agreement.right_lung"]
    assert check(good, []).keep
    assert check(bad, []).reason == "agreement.right_lung"


def test_fused_labels_lie_between_attention_and_what_was_imposed(parts: dict[str, Any]) -> None:
    labels = [
        labelled(recipe(parts, masks={"use": "fused", "fuse": weight, "refine": []}), drawn(False)).mask
        for weight in (0.0, 0.9)
    ]
    imposed = anatomies.chest(0.4)
    assert (labels[0][imposed == 1] == 2).mean() > 0.9
    assert (labels[1][imposed == 1] == 1).all()


def test_classes_that_nobody_imposed_come_from_attention(parts: dict[str, Any]) -> None:
    finding = {"finding": "pneumonia", "region": "heart"}
    one = recipe("none", [finding], masks={"use": "control", "refine": []})
    assert one.imposed() == ("opacity",)
    draw = drawn(False)
    assert draw.control is not None
    draw.control[3, 5:9, 5:9] = True
    sample = labelled(one, draw)
    assert (sample.mask[5:9, 5:9] == 4).all()
    assert (sample.mask[anatomies.chest(0.4) == 1] == 2).mean() > 0.9


def test_control_labels_need_no_attention(parts: dict[str, Any]) -> None:
    everything = [{"finding": "pneumonia", "region": "heart"}]
    assert not recipe(parts, everything, masks={"use": "control"}).reads_attention()
    assert recipe(parts, masks={"use": "control"}).reads_attention()  # the opacity was not imposed


@pytest.mark.parametrize(
    ("anatomy", "pathology", "what"),
    [
        ({"form": "wingspan"}, [], "known here: deform, fade, from, inside"),
        ({"deform": {"ctr": [0.6, 0.4]}}, [], "smaller number first"),
        ({"deform": {"scale": [0.1, 1.0]}}, [], "between 0.5 and 1.5"),
        ("none", [], "nothing is imposed"),
        ({}, [{"finding": "pneumonia", "region": "left knee"}], "names no place in a chest"),
        ({}, [{"finding": "fracture", "region": "heart"}], "'fracture' has no class"),
        ({}, [{"finding": "fracture", "region": "heart", "label": "bone"}], "no class 'bone'"),
        ({}, [{"finding": "pneumonia", "region": "heart", "severity": [0.5, 2]}], "severity"),
    ],
)
def test_what_cannot_be_imposed_is_said_when_the_recipe_is_loaded(
    anatomy: Any, pathology: list[dict[str, Any]], what: str
) -> None:
    with pytest.raises(RecipeError, match=what):
        recipe(anatomy, pathology)


def test_words_of_a_finding_over_the_limit_are_said_before_anything_is_drawn(
    parts: dict[str, Any], tiny: Path, tmp_path: Path
) -> None:
    made = body(parts, [{"finding": "pneumonia " * 90, "region": "heart"}])
    plan = make_plan(parse({**made, "model": str(tiny)}), tmp_path / "out", device="cpu")
    with pytest.raises(RecipeError, match="tokens"):
        check_prompts(plan)


def test_the_phantom_has_an_anatomy_of_its_own(phantom_recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match="generator: latent"):
        parse({**phantom_recipe.resolved(), "control": {"anatomy": {}}})


def test_missing_label_maps_are_said_before_a_model_is_loaded(
    parts: dict[str, Any], tiny: Path, tmp_path: Path
) -> None:
    one = parse({**body({**parts, "from": str(tmp_path / "gone")}), "model": str(tiny)})
    with pytest.raises(CxrError, match="no label maps at"):
        make_plan(one, tmp_path / "out", device="cpu")


def test_a_resolved_recipe_is_the_recipe(parts: dict[str, Any]) -> None:
    one = recipe(parts, [{"finding": "pneumonia", "region": [0.2, 0.2, 0.4, 0.4]}])
    assert parse(one.resolved()) == one
    assert one.resolved()["control"]["anatomy"]["from"] == parts["from"]


def test_label_maps_are_looked_for_beside_the_recipe(
    parts: dict[str, Any], write_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_recipe(body({**parts, "from": "./maps"}))
    monkeypatch.chdir("/")
    assert load(path).control.anatomy.source == str((tmp_path / "maps").resolve())  # type: ignore[union-attr]


def test_the_bundled_recipe_imposes_what_its_first_line_says() -> None:
    one = load(Path("recipes/control.yaml"))
    assert one.imposed() == tuple(one.class_ids())
    assert one.finding_labels() == ["tuberculosis", "opacity", "effusion"]
    assert set(load(Path("recipes/bench/control.yaml")).finding_labels()) == {"finding"}


def test_a_class_that_is_checked_has_to_be_there() -> None:
    with pytest.raises((RecipeError, UsageError), match="unknown class"):
        build([{"use": "agreement", "classes": ["spleen"]}], ["heart"])


def test_an_images_row_names_the_findings_that_were_generated_into_it(parts: dict[str, Any]) -> None:
    asked = [{"finding": "pneumonia", "region": "left lung"}, {"finding": "pneumonia", "region": "right lung"}]
    assert describe(spec(recipe(parts, asked), 0), {})["findings"] == "pneumonia"
    assert "findings" not in describe(spec(recipe(parts), 0), {})
