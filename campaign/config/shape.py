"""Which tables and keys campaign.toml can have, read off the models."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, get_args, get_origin

from pydantic import BaseModel

from campaign.config.schema import Config

Key: TypeAlias = tuple[str, ...]  # ("mail", "password", "file"): the tables, then the key


def tables(model: type[BaseModel] = Config) -> Iterator[tuple[str, type[BaseModel]]]:
    """The tables directly within a table, each with its model."""
    for name, field in model.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield field.alias or name, kind


def model_at(key: Key) -> type[BaseModel] | None:
    """The model of the table that `key` names; None if it names a single value, or nothing known."""
    model: type[BaseModel] | None = Config
    for name in key:
        model = dict(tables(model)).get(name) if model else None
    return model


def names(model: type[BaseModel] | None) -> list[str]:
    """The keys of a table as they are written in the file."""
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def scalar_keys() -> Iterator[tuple[Key, Any]]:
    """The keys with a single value that stand at the top or in a section, each with its type."""
    sections = dict(tables())
    for name, field in Config.model_fields.items():
        if name not in sections:
            yield (name,), field.annotation
    for section, model in sections.items():
        for name, field in model.model_fields.items():
            if get_origin(field.annotation) not in {tuple, Mapping} and name not in dict(tables(model)):
                yield (section, field.alias or name), field.annotation
