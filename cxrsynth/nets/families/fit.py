"""Whether the parts of a model fit each other, from their configs: what is mixed from two models is refused early."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cxrsynth.errors import MissingError
from cxrsynth.nets import parts

MIXED = "the folder is mixed from two models: copy one of them whole"
PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow_prediction")
MOST_STEPS = 100_000  # a table of so many is made for every schedule
PIPELINE = "take a model for text to image"


@contextmanager
def understood(folder: Path) -> Iterator[None]:
    """Turn what arithmetic makes of a config's strange value (a text for a number) into an error that names the model.

    Raises:
        MissingError: instead of it.
    """
    try:
        yield
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise MissingError(f"a config of {folder} holds a value of another kind: {error}", parts.AGAIN) from error


def check_classes(folder: Path, part: str, denoisers: tuple[str, ...], autoencoders: tuple[str, ...]) -> None:
    """Refuse a denoiser or an autoencoder that the family cannot call."""
    for name, allowed in ((part, denoisers), ("vae", autoencoders)):
        kind = parts.config(folder, name).get("_class_name", allowed[0])
        if kind not in allowed:
            raise MissingError(f"the {name} of {folder} is a {kind}", f"supported here: {', '.join(allowed)}")


def check_channels(folder: Path, part: str, packed: int) -> None:
    """Refuse a denoiser that reads more, or gives less, than the latents of the autoencoder.

    Args:
        packed: latents that the denoiser reads as one.
    """
    denoiser, vae = parts.config(folder, part), parts.config(folder, "vae")
    latents = int(vae.get("latent_channels", 4)) * packed
    takes = int(denoiser.get("in_channels") or latents)
    gives = int(denoiser.get("out_channels") or takes)
    if takes != latents or gives not in (latents, 2 * latents):
        raise MissingError(
            f"the {part} of {folder} reads {takes} and gives {gives} channels, its autoencoder has {latents}",
            f"{PIPELINE}; one for inpainting or depth reads more than the latents",
        )
    colours = int(vae.get("in_channels", 3))
    if colours not in (1, 3) or int(vae.get("out_channels", colours)) != colours:
        raise MissingError(f"the autoencoder of {folder} has {colours} colours, 1 or 3 are understood", PIPELINE)


def check_widths(folder: Path, gives: int, reads: int) -> None:
    """Refuse text encoders of another width than the denoiser reads."""
    if gives != reads:
        raise MissingError(
            f"the text encoder of {folder} gives {gives} numbers a token, the denoiser reads {reads}", MIXED
        )


def check_schedule(folder: Path) -> None:
    """Refuse a noise schedule whose predictions nobody here understands."""
    config = parts.read_json(folder / "scheduler" / "scheduler_config.json")
    kind = config.get("prediction_type", "epsilon")
    if str(kind) not in PREDICTIONS:
        raise MissingError(f"the scheduler of {folder} predicts '{kind}'", f"understood: {', '.join(PREDICTIONS)}")
    steps = config.get("num_train_timesteps", 1000)
    if not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS:
        raise MissingError(f"the scheduler of {folder} was trained with {steps} timesteps", parts.AGAIN)


def width(folder: Path, part: str = "text_encoder") -> int:
    """Numbers a token of a text encoder; 0 where there is none."""
    if parts.named(folder, part) is None:
        return 0
    config = parts.config(folder, part)
    return int(config.get("hidden_size") or config.get("d_model") or 0)


def number(config: dict[str, Any], key: str, folder: Path) -> int:
    """A whole number of a denoiser's config.

    Raises:
        MissingError: there is another kind of value.
    """
    value = config.get(key)
    if not isinstance(value, int):
        raise MissingError(f"the denoiser of {folder} has {key}: {value}, one number is understood", PIPELINE)
    return value
