"""What a training leaves behind: a model folder with its card, and the adapter where LoRA says everything."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from cxrsynth.data.material import Material
from cxrsynth.nets import bundle
from cxrsynth.nets.lora import merge, save_adapter
from cxrsynth.train.tasks.diffusion.setup import Setup


def write_result(
    run: Path, setup: Setup, material: Material, steps: int, validation: dict[str, float], command: str
) -> None:
    """Write ``run/model`` and, where the recipe makes one, ``run/adapter``.

    Args:
        validation: loss on the held-out images ``before`` and ``after``, as far as it was measured.

    The networks are used up: they end on the CPU, merged, in half precision.
    """
    base, text = setup.base, card(setup, material, steps, validation, command)
    setup.denoiser.cpu().float()
    if setup.recipe.what.adapter and base.name:
        about = {
            "base": shown(base.name),
            "base_sha256": base.digest,
            "base_licence": base.licence,
            "name": setup.recipe.name,
            "card": text,
        }
        save_adapter(run / "adapter", base.unet, base.text_encoder, setup.lora, about)
    merge(base.unet)
    merge(base.text_encoder)
    whole = bundle.pipeline(base.vae.cpu(), base.unet, base.text_encoder, base.tokenizer, base.schedule)
    bundle.save(run / "model", whole, setup.recipe.shard_mib * 2**20, text)


def card(setup: Setup, material: Material, steps: int, validation: dict[str, float], command: str) -> str:
    """The model card: base, data, licences, what trained, and the command."""
    recipe, base = setup.recipe, setup.base
    known = [base.licence] if base.name else []
    licence = recipe.licence or one_licence([*known, *material.licences()])
    head: dict[str, Any] = {"license": licence or "other"}
    if not licence:
        head["license_name"] = "several, see below"
    head |= {"library_name": "diffusers", "pipeline_tag": "text-to-image"}
    if base.name:
        head["base_model"] = shown(base.name)
    head["tags"] = ["chest x-ray", "radiograph", "synthetic data", "latent diffusion"]
    what = recipe.what
    how = {"full": "trained whole", "lora": f"LoRA of rank {what.rank}", "frozen": "as in the base"}
    encoder = "" if what.encoder is None else f", `{what.encoder.name}` in place of the base's own"
    settings = recipe.model_dump(mode="json", exclude={"what": {"encoder"}})
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("cxrsynth.nets").joinpath("model_card.md").read_text(encoding="utf-8"))
    page = template.render(
        head=yaml.safe_dump(head, sort_keys=False, allow_unicode=True),
        recipe=recipe,
        base=shown(base.name),
        digest=base.digest,
        base_licence=base.licence,
        material=material,
        unet=how[what.unet],
        text_encoder=how[what.text_encoder] + encoder,
        steps=steps,
        validation=validation,
        size=base.size,
        predicts={"epsilon": "the noise", "v_prediction": "velocities"}[base.schedule.config.prediction_type],
        command=command,
        settings=yaml.safe_dump(settings, sort_keys=False, allow_unicode=True),
    )
    return page.rstrip() + "\n"


def shown(name: str) -> str:
    """A model's name; of a folder its last part, because a full path says something about a machine."""
    return Path(name).name if Path(name).is_absolute() or name.startswith((".", "~")) else name


def one_licence(found: list[str]) -> str:
    """The licence that base and data share, empty where they do not."""
    return found[0] if found[0] and len({name.lower() for name in found}) == 1 else ""
