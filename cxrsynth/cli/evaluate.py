"""``cxrsynth evaluate ...``: the commands that measure, gathered under one noun."""

from __future__ import annotations

import typer

from cxrsynth.cli import agreement, classify, control, figures, grounding, levels, masks, segment

app = typer.Typer(
    help="Measure: masks, networks, a trained model. Every figure comes with a 95 % interval.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("seg")(segment.evaluate_seg)
app.command("cls")(classify.evaluate_cls)
app.command("masks")(masks.evaluate_masks)
app.command("chains")(masks.evaluate_chains)
app.command("agreement")(agreement.evaluate_agreement)
app.command("control")(control.evaluate_control)
app.command("grounding")(grounding.evaluate_grounding)
app.command("levels")(levels.evaluate_levels)
app.command("images")(figures.evaluate_images)
app.command("text")(figures.evaluate_text)
app.command("model")(figures.evaluate_model)
