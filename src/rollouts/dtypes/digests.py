"""Content keys: the same content has the same key in every process, whatever the hash seed."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; raises TypeError on what JSON cannot say (no silent `str()`)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(*parts: str) -> str:
    """128 bits of SHA-256 over `parts`, as 32 hex digits. The boundaries between parts count."""
    joined = "\x1f".join([f"{len(part)}:{part}" for part in parts])
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def digest_of(value: Any) -> str:
    """`digest` of a JSON-like value."""
    return digest(canonical_json(value))
