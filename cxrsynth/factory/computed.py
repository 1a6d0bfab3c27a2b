"""What a dataset is computed with: one kind of device and one precision, from its first shard to its last.

The same noise gives other bits on another device and in another precision. A dataset keeps those it was begun with.
"""

from __future__ import annotations

from cxrsynth.errors import MismatchError
from cxrsynth.recipe import Recipe
from cxrsynth.store import Store

Computed = dict[str, str]


def settled(recipe: Recipe, store: Store, device: str) -> Recipe:
    """The recipe with ``sampler.dtype: auto`` replaced by the precision its dataset was begun in, where it was begun.

    Args:
        device: as `cxrsynth.device.resolve` takes it.
    """
    before = begun(store)
    if before is None or recipe.sampler.dtype != "auto":
        return recipe
    from cxrsynth.device import resolve  # here, for plans are made without torch

    # Versions that did not say it took float32 everywhere but on CUDA.
    usual = "bfloat16" if resolve(device).type == "cuda" else "float32"
    sampler = recipe.sampler.model_copy(update={"dtype": before.get("dtype", usual)})
    return recipe.model_copy(update={"sampler": sampler})


def check_same(store: Store, now: Computed) -> None:
    """Refuse to go on with a dataset on another kind of device, or in another precision.

    Raises:
        MismatchError: naming both.
    """
    before = begun(store)
    if before and now and before != now:
        raise MismatchError(
            f"{store.root} was begun on {told(before)}, here it would go on with {told(now)}",
            f"add --device {before.get('device', 'auto')}, or choose another folder with -o: a dataset is not mixed",
        )


def begun(store: Store) -> Computed | None:
    """What the first finished shard was computed with, empty where it does not say; None without one."""
    return next((receipt.computed for receipt in store.receipts()), None)


def told(computed: Computed) -> str:
    """``cpu in bfloat16``."""
    return f"{computed.get('device', '?')} in {computed.get('dtype', '?')}"
