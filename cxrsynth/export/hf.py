"""Hugging Face: an image folder with a metadata file per split, ready to be pushed to the hub.

Format: https://huggingface.co/docs/datasets/image_dataset. ``load_dataset`` gives images, masks, class names, prompts
and fields; the card travels along.
"""

from __future__ import annotations

import yaml

from cxrsynth.encoding import lines
from cxrsynth.export.folder import Folder
from cxrsynth.export.readme import page
from cxrsynth.export.selection import Selection
from cxrsynth.pages.card import hub
from cxrsynth.pages.card.readme import front_matter
from cxrsynth.records import Row


class HuggingFace:
    """``SPLIT/{images,masks,layers}/KEY.png``, ``SPLIT/metadata.jsonl`` and a card that names the splits."""

    masks_only = False

    def write(self, dataset: Selection, folder: Folder) -> None:
        """Write the files of every image, then the metadata, the card last."""
        placed: list[Row] = []
        for row in dataset:
            split, moved = hub.split_name(row.get("split")), dict(row)
            for name in ("image", "mask", "layers"):
                if row.get(name):
                    moved[name] = f"{hub.tree(name)}/{row['key']}.png"
                    folder.put(f"{split}/{moved[name]}", dataset.file(row, name))
            placed.append(moved)
        views = hub.views(placed)
        for view in views:
            for split, part in hub.table(dataset.summary, view.rows, view.files).items():
                folder.put(f"{split}/{view.metadata}.jsonl", lines(part))
        configs = [
            view.config(
                lambda stem, split: f"{split}/{stem}.jsonl", lambda column, split: f"{split}/{hub.tree(column)}/*"
            )
            for view in views
        ]
        head = yaml.safe_dump(
            {**front_matter(dataset.summary), "configs": configs}, sort_keys=False, allow_unicode=True
        )
        folder.put("README.md", f"---\n{head}---\n\n{page(dataset, 'hf')}".encode())
