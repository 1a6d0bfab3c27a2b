"""The blocks of a recipe; every default of the factory is a field here or of the class an entry names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cxrsynth import registry
from cxrsynth.recipe.classes import ClassSpec, unique
from cxrsynth.recipe.control import Control
from cxrsynth.recipe.entry import Entry, construct, resolve_entry
from cxrsynth.recipe.prompts import Prompts
from cxrsynth.records import Asked


def _entries(kind: str) -> Any:
    def resolve(value: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError("write a list of entries")
        return [resolve_entry(kind, entry) for entry in value]

    return BeforeValidator(resolve)


class Config(BaseModel):
    """Base of all recipe blocks: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Sampler(Config):
    """How the latent diffusion model is sampled."""

    scheduler: str | None = Field(
        None,
        description="dpmsolver++, ddim, pndm, euler, unipc or a diffusers class name; default: the model's own",
    )
    num_inference_steps: int | None = Field(
        None, ge=1, le=1000, description="default: 20, or what a distilled model is made for"
    )
    guidance_scale: float | None = Field(
        None,
        ge=0,
        description="1 or less: no classifier-free guidance, half the cost; default: as the model's family is used",
    )
    guidance_rescale: float = Field(
        0.0, ge=0, le=1, description="Lin et al., WACV 2024, section 3.4: tames guidance with zero-terminal SNR"
    )
    eta: float = Field(0.0, ge=0, le=1, description="DDIM noise; other schedulers ignore it")
    height: int | None = Field(None, ge=32, le=2048, description="pixels; default: the size the model was trained at")
    width: int | None = Field(None, ge=32, le=2048, description="pixels; default: the size the model was trained at")
    batch: int = Field(4, ge=1, le=256, description="samples per UNet call; part of what decides the bytes of an image")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="of the denoiser; auto: as the dataset was begun, at first bfloat16 on a GPU and on a processor "
        "that has it, float32 elsewhere; the autoencoder stays float32",
    )


class AttentionSpec(Config):
    """Which attention is read."""

    keys: Literal["map", "prompt"] = Field(
        "map",
        description="map: all classes from a text of their own, whatever the prompt says; "
        "prompt: from the prompt where it names the class",
    )
    levels: tuple[int, ...] = Field(
        (1, 2), min_length=1, description="grids to read: 1 is the latent grid, 2 half of it, 4 a quarter"
    )
    steps: tuple[float, float] = Field(
        (0.0, 1.0), description="part of the steps to read, 0 the first (pure noise), 1 the last"
    )
    normalise_levels: bool = Field(False, description="divide each level by its maximum before averaging")
    timesteps: tuple[int, ...] = Field(
        (10, 50, 100),
        min_length=1,
        description="noise at which a finished image is read, 0 none to 999: by annotate, and for refiners that ask "
        "the network (selfattention, mask_head)",
    )

    @model_validator(mode="after")
    def _ordered(self) -> AttentionSpec:
        if not 0 <= self.steps[0] < self.steps[1] <= 1:
            raise ValueError("attention.steps needs 0 <= from < to <= 1")
        return self


class Masks(Config):
    """From attention to labels."""

    use: Literal["attention", "control", "fused"] = Field(
        "attention",
        description="control: the imposed masks are the labels, classes that nobody imposed come from attention; "
        "fused: both, weighed before the refiner chain",
    )
    fuse: float = Field(0.5, ge=0, le=1, description="weight of the imposed masks in fused labels")
    normalise: Annotated[Entry, BeforeValidator(lambda value: resolve_entry("normalisers", value))] = Field(
        default_factory=lambda: resolve_entry("normalisers", "joint")
    )
    refine: Annotated[list[Entry], _entries("refiners")] = Field(
        default_factory=lambda: [resolve_entry("refiners", name) for name in ("crf", "laterality", "morphology")],
        description="refiner chain, in order",
    )
    ignore: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="pixels whose likeliest label is less likely than this become 255 (ignored) in the mask",
    )
    keep_maps: bool = Field(
        True, description="store the low-resolution maps, so that 'refine' can relabel without sampling"
    )


# The most telling reason first: an image that is no image also lacks its classes.
CHECKS = ("finite", "present", "area", "laterality", "border", "stability", "duplicate")


class Curate(Config):
    """What is kept."""

    checks: Annotated[list[Entry], _entries("checks")] = Field(
        default_factory=lambda: [resolve_entry("checks", name) for name in CHECKS]
    )
    attempts: int = Field(3, ge=1, le=50, description="attempts per slot before it is given up")


class Split(Config):
    """Shares of the splits; each sample is assigned on its own, so raising count moves none."""

    train: float = Field(0.8, ge=0)
    val: float = Field(0.1, ge=0)
    test: float = Field(0.1, ge=0)

    @model_validator(mode="after")
    def _some(self) -> Split:
        if self.train + self.val + self.test <= 0:
            raise ValueError("at least one split needs a share above 0")
        return self


class Card(Config):
    """Texts of the dataset card; not part of the fingerprint."""

    title: str = ""
    description: str = ""
    licence: str = Field("", description="of the dataset; default: what the card of the model says")
    citation: str = ""


class Recipe(Config):
    """What to make."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="name of the dataset; default output folder out/NAME"
    )
    seed: int = Field(0, ge=0)
    count: int = Field(64, ge=1, le=10_000_000, description="slots; raising it extends the dataset")
    shard: int = Field(16, ge=1, le=10000, description="slots per shard: the unit of work, retry and commit")
    generator: Annotated[str, AfterValidator(lambda name: _known("generators", name))] = Field("latent")
    model: str = Field(
        "mini",
        description="bundled name, folder, hub id (owner/name or owner/name@revision), a single .safetensors or .ckpt "
        "file, or a folder with a denoiser only; generator 'phantom' needs none",
    )
    base: str | None = Field(None, description="the model that a single file or a lone denoiser takes its parts from")
    lora: tuple[str, ...] = Field(
        (), description="LoRA folders or files merged into the model, each PATH or PATH:SCALE"
    )
    classes: Annotated[list[ClassSpec], AfterValidator(unique)] = Field(min_length=1, max_length=64)
    prompts: Prompts
    negative_prompt: str = ""
    sampler: Sampler = Field(default_factory=Sampler)
    attention: AttentionSpec = Field(default_factory=AttentionSpec)
    masks: Masks = Field(default_factory=Masks)
    control: Control | None = Field(None, description="what is imposed on the images; null: nothing")
    curate: Curate = Field(default_factory=Curate)
    split: Split = Field(default_factory=Split)
    card: Card = Field(default_factory=Card)

    @model_validator(mode="after")
    def _whole_batches(self) -> Recipe:
        if any(item.overlap for item in self.classes) and len(self.classes) > 8:
            raise ValueError("overlapping classes are stored one bit each: at most 8 classes")
        return self

    @model_validator(mode="after")
    def _controllable(self) -> Recipe:
        if self.control is not None and self.generator == "phantom":
            raise ValueError("the phantom has an anatomy of its own: control needs generator: latent")
        self.finding_labels()
        return self

    def resolved(self) -> dict[str, Any]:
        """The recipe as plain types with every default."""
        return self.model_dump(mode="json", by_alias=True)

    def finding_labels(self) -> list[str]:
        """The class that each finding of ``control.pathology`` fills, in its order.

        Raises:
            ValueError: a finding has no class, or names one that is not there.
        """
        words = {one.name: (one.name.replace("_", " "), one.phrase, *one.when) for one in self.classes}
        return [item.class_among(words) for item in (self.control.pathology if self.control else ())]

    def imposed(self) -> tuple[str, ...] | None:
        """Names of the classes whose masks are imposed; None where the generator itself knows them all."""
        if self.control is None:
            return None
        given = (*self.control.anatomy_classes, *self.finding_labels())
        return tuple(one.name for one in self.classes if one.name in given)

    def reads_attention(self) -> bool:
        """Whether class maps are needed: for labels, for a check of the imposed masks, or to find a region by words."""
        imposed = self.imposed()
        everything = imposed is None or len(imposed) == len(self.classes)
        checked = any(entry["use"] == "agreement" for entry in self.curate.checks)
        return self.masks.use != "control" or not everything or checked

    def shard_keys(self, shard: int) -> list[str]:
        """Keys of the slots of a shard."""
        return [key(index) for index in self.shard_indices(shard)]

    def shard_indices(self, shard: int) -> range:
        """Sample indices of the slots of a shard."""
        return range(shard * self.shard, min((shard + 1) * self.shard, self.count))

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.count // self.shard)

    def asked(self) -> Asked:
        """What the refiners of the chain want to know from the network beside the class maps."""
        if not self.reads_attention():
            return Asked()
        chain = (construct("refiners", entry) for entry in self.masks.refine)
        return reduce(Asked.__or__, (one.asks for one in chain if hasattr(one, "asks")), Asked())

    @property
    def overlapping(self) -> tuple[str, ...]:
        """Names of the classes that lie over others."""
        return tuple(item.name for item in self.classes if item.overlap)

    def class_ids(self) -> dict[str, int]:
        """Class name -> id, in recipe order."""
        return {item.name: item.id for item in self.classes}

    def required(self, present: Mapping[str, bool]) -> tuple[str, ...]:
        """Names of the classes that a sample has to show."""
        return tuple(item.name for item in self.classes if present[item.name])


def key(index: int) -> str:
    """File stem of a sample."""
    return f"{index:09d}"


def _known(kind: str, name: str) -> str:
    if name not in registry.names(kind):
        error = registry.unknown(kind, name, registry.names(kind))
        raise ValueError(f"{error.message}; {error.hint}")
    return name
