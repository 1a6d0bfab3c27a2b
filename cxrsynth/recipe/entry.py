"""An entry of a recipe: a name and its parameters; and how a wrong one is explained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from cxrsynth import registry
from cxrsynth.errors import CxrError
from cxrsynth.recipe import legacy

Entry = dict[str, Any]


def resolve_entry(kind: str, entry: Any) -> Entry:
    """``crf`` or ``{use: crf, iterations: 5}`` -> the entry with every default filled in.

    Raises:
        ValueError: unknown name or parameter; the message lists the right ones.
    """
    if isinstance(entry, str):
        entry = {"use": entry}
    if not isinstance(entry, Mapping) or "use" not in entry:
        raise ValueError(f"write 'name' or '{{use: name, ...}}'; known: {', '.join(registry.names(kind))}")
    params = {key: value for key, value in entry.items() if key != "use"}
    name = legacy.entry(kind, entry["use"])
    try:
        model = registry.load(kind, name)
    except CxrError as error:
        raise ValueError(f"{error.message}; {error.hint}") from error
    try:
        built = model(**params)
    except ValidationError as error:
        raise ValueError(explain(error, model)) from error
    return {"use": name, **built.model_dump(mode="json")}


def construct(kind: str, entry: Mapping[str, Any]) -> Any:
    """An entry -> the object it configures; its other fields take their defaults.

    Raises:
        ValueError: unknown name or parameter; the message lists the right ones.
    """
    resolved = resolve_entry(kind, dict(entry))
    return registry.load(kind, resolved.pop("use"))(**resolved)


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """All problems of a validation in one line each, naming the keys that would be right."""
    told = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            owner = _owner(model, problem["loc"][:-1])
            fields = owner.model_fields.items() if owner else ()
            known = sorted(field.alias or name for name, field in fields)
            message = f"unknown key; known here: {', '.join(known)}"
        told.append(f"{place}: {message}" if place else message)
    return "; ".join(told)


def part_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The part that a field holds, alone, in a list or beside None; None where it holds plain values."""
    annotation = model.model_fields[name].annotation if name in model.model_fields else None
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)), None)


def _owner(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for part in loc:
        if isinstance(part, str) and current is not None:
            current = part_of(current, part)
    return current
