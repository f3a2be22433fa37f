"""How the server says that something went wrong."""

from __future__ import annotations

from typing import Any


def error_object(message: str, kind: str, param: str | None = None) -> dict[str, Any]:
    """As OpenAI's API says that something went wrong."""
    return {"error": {"message": message, "type": kind, "param": param, "code": None}}
