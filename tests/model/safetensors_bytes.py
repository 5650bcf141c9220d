"""`.safetensors` files written byte by byte, so that they can be invalid."""

from __future__ import annotations

import json
from typing import Any


def safetensors_bytes(header: dict[str, Any] | str | bytes, data: bytes = b"") -> bytes:
    text = header if isinstance(header, str | bytes) else json.dumps(header)
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(8, "little") + raw + data


def split_file(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header and the bytes of the tensors."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_metadata(content: bytes, metadata: str | None) -> bytes:
    """Return the file with another text under its only metadata key."""
    header, data = split_file(content)
    header["__metadata__"] = {} if metadata is None else {"geoseg": metadata}
    return safetensors_bytes(header, data)
