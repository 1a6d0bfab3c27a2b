"""A dataset on disk as a sequence, and as the datasets of torch, Hugging Face and MONAI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from cxrsynth.api.image import LabelledImage
from cxrsynth.errors import MissingError, UsageError
from cxrsynth.records import Row
from cxrsynth.store import Store

if TYPE_CHECKING:
    import torch

ALIASES = {"validation": "val"}


class Dataset(Sequence[LabelledImage]):
    """The finished images of a dataset folder; files are read when an image is asked for.

    Args:
        folder: what generate, refine, annotate, segment or ingest wrote.

    Raises:
        UsageError: the folder is no dataset, or holds no image yet.

    Example:
        >>> import tempfile
        >>> import cxrsynth
        >>> folder = tempfile.mkdtemp()
        >>> images = cxrsynth.generate("phantom", n=4, out=folder)
        >>> data = cxrsynth.Dataset(folder)
        >>> len(data), data[0].image.shape, list(data.classes)
        (4, (256, 256), ['right_lung', 'left_lung', 'heart'])
        >>> sum(len(data.split(name)) for name in data.splits)
        4
    """

    def __init__(self, folder: str | Path) -> None:
        store = Store(Path(folder))
        classes, rows = store.classes(), list(store.rows())
        if not rows:
            raise UsageError(f"{folder} holds no finished image yet", f"see how far it is: cxrsynth status {folder}")
        self._set(store, classes, rows)

    def _set(self, store: Store, classes: dict[str, int], rows: list[Row]) -> None:
        self._store, self._classes, self._rows = store, classes, rows

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self._store.root

    @property
    def classes(self) -> dict[str, int]:
        """Class name -> id in the masks."""
        return dict(self._classes)

    @property
    def rows(self) -> list[Row]:
        """What the dataset says of each image, in order."""
        return list(self._rows)

    @property
    def splits(self) -> dict[str, int]:
        """Split -> number of images."""
        names = [str(row.get("split") or "train") for row in self._rows]
        order = [name for name in ("train", "val", "test") if name in names]
        return {name: names.count(name) for name in [*order, *sorted(set(names) - set(order))]}

    def split(self, name: str) -> Dataset:
        """The images of one split: ``train``, ``val`` (or ``validation``), ``test``.

        Raises:
            UsageError: there is no image in it.
        """
        wanted = ALIASES.get(name, name)
        rows = [row for row in self._rows if (row.get("split") or "train") == wanted]
        if not rows:
            raise UsageError(f"{self.folder} has no split '{name}'", f"its splits: {', '.join(self.splits)}")
        return self._view(rows)

    def _view(self, rows: list[Row]) -> Dataset:
        view = Dataset.__new__(Dataset)
        view._set(self._store, self._classes, rows)
        return view

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> LabelledImage: ...

    @overload
    def __getitem__(self, index: slice) -> Dataset: ...

    def __getitem__(self, index: int | slice) -> LabelledImage | Dataset:
        if isinstance(index, slice):
            return self._view(self._rows[index])
        row = self._rows[index]
        layers = self._store.load_layers(row, len(self._classes))
        return LabelledImage(
            image=self._store.load_image(row),
            mask=self._store.load_mask(row),
            classes=self.classes,
            prompt=str(row.get("prompt") or ""),
            scores=dict(row.get("scores") or {}),
            key=str(row["key"]),
            split=str(row.get("split") or ""),
            fields=dict(row.get("fields") or {}),
            layers={} if layers is None else dict(zip(self._classes, layers, strict=True)),
            row=dict(row),
        )

    def torch(self, transform: Callable[..., Any] | None = None) -> torch.utils.data.Dataset[dict[str, torch.Tensor]]:
        """For a ``torch.utils.data.DataLoader``.

        Args:
            transform: (image (H, W) uint8, mask (H, W) uint8) -> the same two, for augmentation. Do not flip: right
                and left are classes.

        Returns:
            Items ``{"image": (1, H, W) float32 in 0..1, "mask": (H, W) int64 class ids, "labelled": () bool}``.
        """
        from cxrsynth.data.dataset import Images

        return Images(self.folder, self._rows, transform)

    def hf(self) -> Any:
        """For Hugging Face ``datasets``: a ``DatasetDict`` of the splits, or after `split` a ``Dataset``.

        Images and masks are Image features that read the dataset's own files; nothing is copied.

        Raises:
            MissingError: ``datasets`` is not installed.
        """
        hub = _need("datasets")
        from cxrsynth.pages.card.hub import NAMES, table, views
        from cxrsynth.pages.summary import summarise

        view = views(self._rows)[0]
        parts = {}
        for name, rows in table(summarise(self.folder), view.rows, view.files).items():
            for row in rows:
                for column in view.files:
                    path = row.pop("file_name" if column == "image" else f"{column}_file_name")
                    row[column] = str(self.folder.absolute() / path)
            part = hub.Dataset.from_list(rows)
            for column in view.files:
                part = part.cast_column(column, hub.Image())
            parts[name] = part
        if len(self.splits) == 1 and len(self._rows) < len(list(self._store.rows())):
            return parts[NAMES.get(next(iter(self.splits)), next(iter(self.splits)))]
        return hub.DatasetDict(parts)

    def monai(self, transform: Callable[..., Any] | None = None) -> Any:
        """For MONAI: a ``monai.data.Dataset`` over ``{"image": path, "label": path}``.

        Args:
            transform: dictionary transforms; by default image and label are loaded with the channel first.

        Returns:
            Items with ``image`` and ``label`` as (1, W, H) tensors: MONAI puts columns first. Images without a mask
            have no ``label``.

        Raises:
            MissingError: ``monai`` is not installed.
        """
        _need("monai")
        from monai.data import Dataset as MonaiDataset
        from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

        keys = ["image", "label"]
        items = [
            {
                name: str(self.folder / row[column])
                for name, column in zip(keys, ("image", "mask"), strict=True)
                if row[column]
            }
            | {"key": row["key"]}
            for row in self._rows
        ]
        read = Compose([LoadImaged(keys, allow_missing_keys=True), EnsureChannelFirstd(keys, allow_missing_keys=True)])
        return MonaiDataset(items, transform or read)

    def __repr__(self) -> str:
        told = ", ".join(f"{count} {name}" for name, count in self.splits.items())
        return f"Dataset({str(self.folder)!r}, {told}, classes: {', '.join(self._classes)})"


def _need(package: str) -> Any:
    """Import a package of the extra ``export``."""
    from importlib import import_module

    try:
        return import_module(package)
    except ModuleNotFoundError:
        raise MissingError(f"this view needs the package {package}", "pip install 'cxrsynth[export]'") from None
