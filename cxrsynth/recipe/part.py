"""A part of a recipe or configuration: unknown keys are errors, values stay."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from cxrsynth.encoding import dumps, sha256
from cxrsynth.recipe import legacy


class Part(BaseModel):
    """A part of the recipe: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _names_of_earlier_versions(cls, body: Any) -> Any:
        return legacy.fields(body, cls.model_fields) if isinstance(body, dict) else body

    def digest(self, *leave_out: str) -> str:
        """sha256 of the part with its defaults filled in, without the named fields."""
        return sha256(dumps(self.model_dump(mode="json", exclude=set(leave_out))))
