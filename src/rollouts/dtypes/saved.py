"""What is saved as JSON carries the version of its schema."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from rollouts.errors import ConfigError

SCHEMA_VERSION = 1


def opened(data: Mapping[str, Any] | str, what: str, *, required: Collection[str]) -> dict[str, Any]:
    """The fields of saved JSON without its `schema_version`; data that has none is read as version 1.

    Raises ConfigError when it is no JSON object, was written by a newer version, or lacks one of `required`.
    """
    try:
        fields = json.loads(data) if isinstance(data, str) else data
    except ValueError as error:
        raise ConfigError(f"the {what} is no JSON: {error}") from None
    if not isinstance(fields, Mapping):
        raise ConfigError(f"the {what} is no JSON object")
    fields = dict(fields)
    version = fields.pop("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise ConfigError(
            f"the {what} has schema version {version!r}, and this rollouts reads version {SCHEMA_VERSION}: "
            "update rollouts-optimizer"
        )
    missing = sorted(set(required) - set(fields))
    if missing:
        raise ConfigError(f"the {what} lacks {', '.join(missing)}")
    return fields
