"""Where the prompts of a recipe come from."""

from __future__ import annotations

from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from cxrsynth.recipe.part import Part


def _weighted(value: Any) -> Any:
    """A list, or a mapping word -> weight."""
    if isinstance(value, list):
        return {str(word): 1.0 for word in value}
    return value


Weighted = Annotated[dict[str, Annotated[float, Field(ge=0)]], BeforeValidator(_weighted)]


class Prompts(Part):
    """Where the prompts come from: templates filled from a vocabulary, rows of a CSV file, or lines of a text file."""

    templates: Weighted = Field(default_factory=dict, description="template -> weight, or a list; {word} is filled in")
    vocabulary: dict[str, Weighted] = Field(
        default_factory=dict, description="word -> {choice: weight} or a list of choices"
    )
    csv: Path | None = Field(
        None,
        description="CSV with a column of prompts; 'negative_prompt' wins over the recipe's; other columns become "
        "fields; used in order",
    )
    column: str = Field("prompt", min_length=1, description="the column of the CSV that holds the prompts")
    weight: str | None = Field(
        None, min_length=1, description="a column of the CSV that says how often each prompt is taken; null: in order"
    )
    text: Path | None = Field(None, description="one prompt per line, used in order; a long list is not held in memory")
    too_long: Literal["refuse", "cut"] = Field(
        "refuse", description="prompts over the model's token limit: refuse them, or cut their ends and count how many"
    )
    each: int = Field(1, ge=1, description="images per prompt, one after the other, each from its own noise")

    @model_validator(mode="after")
    def _one_source(self) -> Prompts:
        given = [name for name in ("templates", "csv", "text") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"give exactly one of templates, csv, text (given: {', '.join(given) or 'none'})")
        if self.weight is not None and self.csv is None:
            raise ValueError("weight names a column of csv; templates have weights of their own")
        for template in self.templates:
            for _, word, _, _ in Formatter().parse(template):
                if word is not None and word not in self.vocabulary:
                    raise ValueError(
                        f"template uses {{{word}}}, which is not in vocabulary: {', '.join(self.vocabulary) or 'empty'}"
                    )
        for word, choices in {**self.vocabulary, "templates": self.templates or {"": 1.0}}.items():
            if not choices or sum(choices.values()) <= 0:
                raise ValueError(f"'{word}' needs at least one choice with a weight above 0")
        return self
