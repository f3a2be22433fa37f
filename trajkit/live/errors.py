"""How the server says that something went wrong."""

from __future__ import annotations

from typing import Any

_LONGEST = 1000
"""Characters of a message, which may quote what came."""


class Refused(Exception):
    """A request that is not served. status: of HTTP. kind: as OpenAI names them."""

    def __init__(
        self, status: int, message: str, kind: str = "invalid_request_error", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.headers = status, message, kind, headers


def error_object(message: str, kind: str, param: str | None = None) -> dict[str, Any]:
    """As OpenAI's API says that something went wrong. What of the message cannot be sent is escaped; one that quotes
    at length is cut."""
    shown = message if len(message) <= _LONGEST else f"{message[:_LONGEST]} …"
    said = shown.encode("utf-8", "backslashreplace").decode()
    return {"error": {"message": said, "type": kind, "param": param, "code": None}}
