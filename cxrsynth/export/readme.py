"""README.md of an export: what it is, that it is synthetic, how it was made, and what may be done with it."""

from __future__ import annotations

from cxrsynth.export.selection import Selection
from cxrsynth.pages.markdown import cell, code

LAYOUTS = {
    "hf": "Hugging Face image folder: `SPLIT/images`, `SPLIT/masks`, `SPLIT/metadata.jsonl`.",
    "nnunet": "nnU-Net v2: `imagesTr`, `labelsTr`, `imagesTs`, `labelsTs`, `dataset.json`, `splits_final.json`.",
    "coco": "COCO: `images/SPLIT/`, `annotations/instances_SPLIT.json` with one RLE mask per instance.",
    "yolo": "YOLO segmentation: `images/SPLIT/`, `labels/SPLIT/` with polygons, `data.yaml`.",
    "webdataset": "WebDataset: `SPLIT-00000.tar` with `KEY.png`, `KEY.mask.png`, `KEY.json`.",
    "monai": "MONAI: `dataset.json`, a datalist with `training`, `validation` and `test`.",
}


def page(dataset: Selection, form: str) -> str:
    """The page of an export as Markdown."""
    summary = dataset.summary
    first = (
        "**These chest X-rays are synthetic: a program generated them, no patient was ever imaged. They are not for "
        "diagnosis.**"
        if summary.synthetic
        else "**Chest X-rays brought into one form for research. They are not for diagnosis.**"
    )
    counted = ", ".join(f"{count:,} {cell(name)}" for name, count in dataset.splits().items())
    parts = [f"# {cell((summary.recipe.get('card') or {}).get('title') or summary.name)}", first]
    parts.append(" ".join(filter(None, [LAYOUTS.get(form, ""), f"{len(dataset.rows):,} images: {counted}."])))
    parts.append(
        "Right and left are the **patient's**: the right lung is on the left of the image. Do not flip images "
        "horizontally."
    )
    parts.append("| class | id in the dataset |\n|---|---:|\n" + "".join(
        f"| {cell(name)} | {number} |\n" for name, number in dataset.classes.items()
    ).rstrip())  # fmt: skip
    if dataset.left_out:
        told = "\n".join(f" - {count:,}: {cell(reason)}" for reason, count in dataset.left_out.items())
        parts.append(f"Images of the dataset that are not in this export:\n\n{told}")
    parts.append("## Where it comes from\n\n" + origin(dataset))
    parts.append("## Licence\n\n" + licences(dataset))
    citation = dataset.provenance()["citation"]
    if citation:
        parts.append(f"## Citation\n\n{cell(citation)}")
    return "\n\n".join(parts) + "\n"


def origin(dataset: Selection) -> str:
    """The facts that lead back to the dataset, one per line."""
    told = dataset.provenance()
    facts = [f"dataset {code(told['dataset'])}, fingerprint {code(told['fingerprint'])}"]
    if told["model"]:
        name, digest, licence = (told["model"][part] for part in ("name", "digest", "licence"))
        facts.append(f"model {code(name)}, sha256 {code(digest)}, licence {cell(licence)}")
    elif told["generator"]:
        facts.append(f"generator {code(told['generator'])}, without weights")
    facts.append(f"exported by cxrsynth {told['cxrsynth']}")
    return "\n".join(f" - {fact}" for fact in facts)


def licences(dataset: Selection) -> str:
    """The licences with their numbers of images."""
    found = dataset.summary.licences()
    if not found:
        return "No licence is stated. Ask before you share the images."
    return "\n".join(
        f" - {cell(name)}: {count:,} {'image' if count == 1 else 'images'}" for name, count in found.items()
    )
