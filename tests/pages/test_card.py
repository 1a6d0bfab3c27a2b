"""The dataset card and its machine-readable twin: what they say, and that they say it the same way every time."""

from __future__ import annotations

import json
from pathlib import Path

import mlcroissant
import numpy as np
import pytest
import yaml
from PIL import Image

from cxrsynth.encoding import dumps
from cxrsynth.errors import UsageError
from cxrsynth.pages.card import write_card, write_preview
from cxrsynth.pages.markdown import cell, code
from cxrsynth.store import Store
from tests.small_dataset import CLASSES, FINGERPRINT, HOSTILE, make, make_real


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make(tmp_path_factory.mktemp("card") / "small")
    write_card(root)
    write_preview(root)
    return root


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_real(tmp_path_factory.mktemp("card") / "images")
    write_card(root)
    return root


def card_text(root: Path) -> str:
    return (root / "README.md").read_text(encoding="utf-8")


def head(root: Path) -> dict[str, object]:
    _, front, _ = card_text(root).split("---\n", 2)
    return yaml.safe_load(front)


def test_the_head_is_what_dataset_hubs_read(dataset: Path) -> None:
    assert head(dataset)["license"] == "cc-by-4.0"
    assert "image-segmentation" in head(dataset)["task_categories"]  # type: ignore[operator]
    assert head(dataset)["size_categories"] == ["n<1K"]


def test_a_generated_dataset_says_first_that_it_is_synthetic_and_not_for_diagnosis(dataset: Path) -> None:
    body = card_text(dataset).split("---\n", 2)[2]
    first = next(line for line in body.splitlines() if line and not line.startswith("#"))
    assert "synthetic" in first
    assert "not for diagnosis" in first
    assert "synthetic" in head(dataset)["tags"]  # type: ignore[operator]


def test_real_images_are_not_called_synthetic(real: Path) -> None:
    assert "synthetic" not in card_text(real)
    assert "hospital images" in card_text(real)


def test_the_card_counts_pictures_per_split_and_class(dataset: Path) -> None:
    text = card_text(dataset)
    assert "6 images: 4 train, 1 val, 1 test." in text
    assert "| 3 | heart | heart | 4 | 1 | 1 |" in text


def test_the_card_says_whose_right_is_right(dataset: Path) -> None:
    assert "the right lung is on the left of the image" in card_text(dataset)


def test_the_card_tells_how_it_was_made(dataset: Path) -> None:
    text = card_text(dataset)
    assert "cxrsynth generate --prompts recipe.yaml" in text
    assert FINGERPRINT in text
    assert "cxrsynth 0.1.0" in text


def test_the_card_lists_rejects_and_what_is_missing(dataset: Path) -> None:
    text = card_text(dataset)
    assert "| heart too small (`area.heart.small`) | 1 | 14.3 % |" in text
    assert "1 planned image is missing" in text


def test_the_card_names_the_model_by_its_digest_but_not_by_its_place(tmp_path: Path) -> None:
    root = make(tmp_path / "small", generator="latent", model=str(tmp_path / "my-model"))
    (tmp_path / "my-model").mkdir()
    (tmp_path / "my-model" / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    Store(root).write("identity.json", dumps({"fingerprint": FINGERPRINT, "identity": {"model": "ef" * 32}}))
    write_card(root)
    assert f"| `my-model` | `{'ef' * 32}` | apache-2.0 |" in card_text(root)
    assert str(tmp_path) not in card_text(root)


def test_several_licences_are_all_named(tmp_path: Path) -> None:
    root = make_real(tmp_path / "images")
    path = root / "meta/00000.jsonl"
    path.write_text(path.read_text().replace("CC-BY-4.0", "CC0-1.0", 1))
    write_card(root)
    assert head(root)["license"] == "other"
    assert "several" in str(head(root)["license_name"])
    assert "CC0-1.0: 1 image\n" in card_text(root)
    assert "CC-BY-4.0: 2 images\n" in card_text(root)


def test_the_licence_of_generated_images_is_that_of_the_models_card(tmp_path: Path) -> None:
    cases = {
        "license: cc-by-nc-4.0": ("cc-by-nc-4.0", "cc-by-nc-4.0: 6 images"),
        "license: other": ("other", "other: see the card of the model my-model: 6 images"),
        "tags: [xray]": ("other", "unknown: see the card of the model my-model: 6 images"),
    }
    for number, (line, (known, told)) in enumerate(cases.items()):
        root = make(tmp_path / str(number), generator="latent", model=str(tmp_path / "my-model"), card={})
        (tmp_path / "my-model").mkdir(exist_ok=True)
        (tmp_path / "my-model/README.md").write_text(f"---\n{line}\n---\n")
        Store(root).write("identity.json", dumps({"fingerprint": FINGERPRINT, "identity": {"model": "ef" * 32}}))
        write_card(root)
        assert head(root)["license"] == known
        assert told in card_text(root)


def test_a_licence_that_nobody_states_is_said_to_be_missing(tmp_path: Path) -> None:
    write_card(make(tmp_path / "small", card={}))
    assert (head(tmp_path / "small")["license"], head(tmp_path / "small")["license_name"]) == ("other", "not stated")
    assert "No licence is stated" in card_text(tmp_path / "small")


def test_a_hostile_prompt_is_only_text(dataset: Path) -> None:
    assert f"`{HOSTILE}`" in card_text(dataset)
    assert cell("a|b\n<b>") == "a\\|b &lt;b&gt;"
    assert code("a `b`") == "`` a `b` ``"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("![x](https://elsewhere/x.png)", "!\\[x\\](https://elsewhere/x.png)"),
        ("# not a heading, **not** bold", "\\# not a heading, \\*\\*not\\*\\* bold"),
        ("right_lung and _this_", "right_lung and \\_this\\_"),
        ("red \x1b[31m, title \x1b]0;x\x07", "red \\\\x1b\\[31m, title \\\\x1b\\]0;x\\\\x07"),
    ],
)
def test_a_users_text_is_neither_markdown_nor_terminal_control(text: str, shown: str) -> None:
    assert cell(text) == shown


def test_no_run_of_backticks_ends_code() -> None:
    assert code("a `` <script>") == "``` a `` <script> ```"


def test_a_description_loads_no_image_and_controls_no_terminal(tmp_path: Path) -> None:
    hostile = "see ![x](http://elsewhere/x.png) <img src=//elsewhere/y.png> \x1b[2J \x9b31m"
    root = make(tmp_path / "small", card={"title": hostile, "description": hostile, "citation": hostile})
    write_card(root)
    for name in ("README.md", "croissant.json"):
        text = (root / name).read_text(encoding="utf-8")
        assert all(char.isprintable() or char == "\n" for char in text), name
    body = card_text(root).split("---\n", 2)[2]
    assert "![x]" not in body
    assert "<img" not in body


def test_the_card_has_the_same_bytes_every_time(dataset: Path, tmp_path: Path) -> None:
    again = make(tmp_path / "elsewhere")
    write_card(again)
    for name in ("README.md", "croissant.json"):
        assert (again / name).read_bytes() == (dataset / name).read_bytes()


@pytest.mark.parametrize("kind", ["dataset", "real"])
def test_croissant_accepts_the_metadata(kind: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(kind)
    found = mlcroissant.Dataset(root / "croissant.json")
    assert not found.metadata.ctx.issues.errors


def test_croissant_readers_find_every_picture_and_mask(dataset: Path) -> None:
    records = list(mlcroissant.Dataset(dataset / "croissant.json").records("samples"))
    assert [record["samples/key"].decode() for record in records] == [f"{number:09d}" for number in range(6)]
    for record in records:
        assert (dataset / record["samples/image"].decode()).is_file()
        assert (dataset / record["samples/mask"].decode()).is_file()


def test_croissant_readers_find_fields_and_scores(dataset: Path) -> None:
    first = next(iter(mlcroissant.Dataset(dataset / "croissant.json").records("samples")))
    assert first["samples/fields/view"] == b"PA"
    assert first["samples/scores/area.heart"] == pytest.approx(0.04)


def test_croissant_says_how_to_cite_and_keeps_the_date_of_the_first_card(tmp_path: Path) -> None:
    root = make(tmp_path / "small")
    write_card(root)
    path = root / "croissant.json"
    body = json.loads(path.read_text())
    assert FINGERPRINT[:12] in body["citeAs"]
    path.write_text(json.dumps({**body, "datePublished": "2020-02-02"}))
    write_card(root)
    assert json.loads(path.read_text())["datePublished"] == "2020-02-02"


def test_croissant_readers_find_the_classes(dataset: Path) -> None:
    records = list(mlcroissant.Dataset(dataset / "croissant.json").records("classes"))
    assert {record["classes/name"]: record["classes/id"] for record in records} == CLASSES


def test_croissant_names_the_licence_by_its_address(dataset: Path) -> None:
    body = json.loads((dataset / "croissant.json").read_text())
    assert body["license"] == "https://spdx.org/licenses/CC-BY-4.0.html"


def test_the_preview_is_a_picture_of_evenly_chosen_samples(dataset: Path) -> None:
    few = np.asarray(Image.open(write_preview(dataset, n=2)))
    many = np.asarray(Image.open(write_preview(dataset)))
    assert many.size > few.size > 0


def test_a_folder_that_is_no_dataset_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a cxrsynth dataset") as caught:
        write_card(tmp_path)
    assert caught.value.hint


def test_a_dataset_without_pictures_is_an_error_with_a_hint(tmp_path: Path) -> None:
    Store(tmp_path).write("classes.json", dumps({"classes": []}))
    with pytest.raises(UsageError, match="no finished image") as caught:
        write_card(tmp_path)
    assert "status" in caught.value.hint
