"""croissant.json: the dataset described for programs, in the form of Croissant 1.0."""

from __future__ import annotations

from typing import Any

from cxrsynth.pages.card.readme import citation, spdx, tags
from cxrsynth.pages.markdown import one_line
from cxrsynth.pages.summary import Summary

COLUMNS = {
    "key": ("sc:Text", "File stem of image and mask."),
    "split": ("sc:Text", "train, val or test."),
    "image": ("sc:Text", "Path of the image, 8-bit gray PNG."),
    "mask": ("sc:Text", "Path of the mask: 8-bit class ids, 0 background, 255 ignore."),
    "layers": ("sc:Text", "Path of the class layers, one bit per class, where classes overlap."),
    "prompt": ("sc:Text", "The text that the image was generated from, or that describes it."),
    "negative_prompt": ("sc:Text", "What the image was not to show."),
    "seed": ("sc:Integer", "Seed of the image's own noise."),
    "attempt": ("sc:Integer", "How often the slot was rejected before."),
    "source": ("sc:Text", "Collection that the image comes from."),
    "licence": ("sc:Text", "Licence of the image."),
    "patient": ("sc:Text", "Patient, as the collection numbers them."),
    "view": ("sc:Text", "PA, AP or lateral."),
}
# Readers of JSON lines turn a key of nothing but digits into a number and lose its zeros: it is cut out of the path.
EXTRACTS = {"key": {"extract": {"column": "image"}, "transform": {"regex": ".*/([^/]+)\\.png$"}}}


# Mappings inside a line: column -> (data type, what it is).
NESTED = {
    "fields": ("sc:Text", "What the prompt was filled with."),
    "scores": ("sc:Float", "Figure of labelling or curation."),
}


def croissant(summary: Summary, date: str) -> dict[str, Any]:
    """The dataset in the form of Croissant 1.0 (https://docs.mlcommons.org/croissant).

    Args:
        date: of publication, ``2026-01-31``.
    """
    card = summary.recipe.get("card") or {}
    first = "Synthetic chest X-rays, not for diagnosis." if summary.synthetic else "Chest X-rays, not for diagnosis."
    found = list(summary.licences()) or ["not stated"]
    urls = [address(name) for name in found]
    columns = {name: COLUMNS[name] for name in COLUMNS if any(row.get(name) is not None for row in summary.rows)}
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"samples/{name}",
            "name": name,
            "description": told,
            "dataType": kind,
            "source": {"fileSet": {"@id": "meta"}, **EXTRACTS.get(name, {"extract": {"column": name}})},
        }
        for name, (kind, told) in columns.items()
    ]
    fields += nested(summary)
    trees = [("images", "Images, 8-bit gray."), ("masks", "Class ids, 8 bits."), ("layers", "One bit per class.")]
    present = [tree for tree in trees if (summary.store.root / tree[0]).is_dir()]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "".join(letter if letter.isalnum() else "-" for letter in summary.name),
        "description": one_line(f"{first} {card.get('description') or ''}"),
        "license": urls if len(urls) > 1 else urls[0],
        **({"citeAs": one_line(citation(summary))} if citation(summary) else {}),
        "datePublished": date,
        "version": "1.0.0",
        "keywords": tags(summary),
        "isLiveDataset": False,
        "identifier": summary.fingerprint,
        "distribution": [
            _file_set("meta", "One line per image.", "application/jsonlines", "meta/*.jsonl"),
            *(_file_set(tree, told, "image/png", f"{tree}/*/*.png") for tree, told in present),
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "classes",
                "name": "classes",
                "description": "Pixel values of the masks. Right and left are the patient's.",
                "key": {"@id": "classes/id"},
                "field": [
                    {"@type": "cr:Field", "@id": f"classes/{name}", "name": name, "dataType": kind}
                    for name, kind in (("id", "sc:Integer"), ("name", "sc:Text"), ("phrase", "sc:Text"))
                ],
                "data": [
                    {"classes/id": label.id, "classes/name": label.name, "classes/phrase": label.phrase}
                    for label in summary.labels
                ],
            },
            {
                "@type": "cr:RecordSet",
                "@id": "samples",
                "name": "samples",
                "description": "One record per image; paths are relative to this file.",
                "key": {"@id": "samples/key"},
                "field": fields,
            },
        ],
    }


def nested(summary: Summary) -> list[dict[str, Any]]:
    """A field for each thing that prompts were filled with, and for each score."""
    return [
        {
            "@type": "cr:Field",
            "@id": f"samples/{column}/{name}",
            "name": f"{column}/{name}",
            "description": told,
            "dataType": kind,
            "source": {
                "fileSet": {"@id": "meta"},
                "extract": {"column": column},
                "transform": {"jsonPath": f"$.'{name}'"},
            },
        }
        for column, (kind, told) in NESTED.items()
        for name in sorted({name for row in summary.rows for name in row.get(column) or {} if "'" not in name})
    ]


def _file_set(ident: str, told: str, encoding: str, includes: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": ident,
        "name": ident,
        "description": told,
        "encodingFormat": encoding,
        "includes": includes,
    }


def address(licence: str) -> str:
    """The address of a licence that SPDX knows; others in their own words."""
    name = spdx(licence)
    if name is None:
        return licence
    written = {"apache-2.0": "Apache-2.0"}.get(name, name.upper())
    return f"https://spdx.org/licenses/{written}.html"


CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
