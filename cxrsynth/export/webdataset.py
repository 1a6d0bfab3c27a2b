"""WebDataset: tar files that are read from front to back, the files of one sample next to each other.

Format: https://github.com/webdataset/webdataset. Entries carry no times and no owners: the same dataset gives the same
bytes.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from typing import Any

from cxrsynth.encoding import dumps
from cxrsynth.export.folder import Folder
from cxrsynth.export.selection import Selection, split
from cxrsynth.records import Row

SAMPLES = 1000  # per tar file


class WebDataset:
    """``SPLIT-00000.tar`` with ``KEY.png``, ``KEY.mask.png``, ``KEY.layers.png`` and ``KEY.json``; ``dataset.json``.

    A dot ends the key in this form, so dots in keys become underscores; the JSON keeps the key as it is.
    """

    masks_only = False

    def write(self, dataset: Selection, folder: Folder) -> None:
        """Write the tar files split by split, then ``dataset.json`` that lists them."""
        parts: dict[str, list[list[Row]]] = {}
        for row in dataset.rows:
            chunks = parts.setdefault(split(row), [[]])
            if len(chunks[-1]) == SAMPLES:
                chunks.append([])
            chunks[-1].append(row)
        shards: dict[str, list[dict[str, Any]]] = {}
        progress = iter(dataset)
        for name in dataset.splits():
            for number, rows in enumerate(parts[name]):
                path = folder.put(f"{name}-{number:05d}.tar", tar(dataset, rows, progress))
                shards.setdefault(name, []).append({"url": path, "samples": len(rows)})
        body = {**dataset.provenance(), "classes": dataset.classes, "shards": shards}
        folder.put("dataset.json", dumps(body))


def tar(dataset: Selection, rows: list[Row], progress: Iterator[Row]) -> bytes:
    """The bytes of one tar file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for row in rows:
            stem = str(row["key"]).replace(".", "_")
            for suffix, data in sample(dataset, row).items():
                entry = tarfile.TarInfo(f"{stem}.{suffix}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
            next(progress)
    return buffer.getvalue()


def sample(dataset: Selection, row: Row) -> dict[str, bytes]:
    """Suffix -> bytes of one sample."""
    files = {"png": dataset.image(row)}
    for suffix, name in (("mask.png", "mask"), ("layers.png", "layers")):
        if row.get(name):
            files[suffix] = dataset.file(row, name)
    told = {name: value for name, value in row.items() if name not in ("image", "mask", "layers", "maps", "shard")}
    told |= {"classes": dataset.classes, "licence": dataset.licence(row), "synthetic": "source" not in row}
    return {**files, "json": json.dumps(told, sort_keys=True, ensure_ascii=False).encode()}
