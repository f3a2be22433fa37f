"""Another server of OpenAI's API, asked for answers in chunks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx

from trajkit.errors import InputError, TrajkitError

_LONGEST_LINE = 2**22
_TOLD = 500
"""Bytes of another server's words about an error."""


class UpstreamError(TrajkitError):
    """The other server failed, stalled, or sent what cannot be read."""


class RefusedError(InputError):
    """The other server does not take the request."""


@dataclass(eq=False)
class OtherServer:
    """url: …/v1. key: its API key. stall: seconds without a byte after which it counts as dead. Used in one event
    loop."""

    url: str
    key: str | None = None
    stall: float = 60.0
    _without: int = 0
    """How many of the fields that are asked for besides it is known to refuse."""

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        timeout = httpx.Timeout(10, read=self.stall, pool=None)
        return httpx.AsyncClient(timeout=timeout, limits=httpx.Limits(max_connections=None), headers=_headers(self.key))

    async def chunks(
        self, body: Mapping[str, Any], besides: Sequence[Mapping[str, Any]]
    ) -> AsyncIterator[dict[str, Any]]:
        """Chunks of the answer to a request. besides: fields that are asked for in addition; a server that refuses the
        request is asked without the first of them, then without the first two, and so on.

        Raises RefusedError where it takes none of these, UpstreamError for anything else that goes wrong.
        """
        without = self._without
        while True:
            asked = dict(body)
            for fields in besides[without:]:
                asked |= fields
            try:
                async for chunk in self._answer(asked):
                    self._without = without
                    yield chunk
                return
            except RefusedError:
                without += 1
                if without > len(besides):
                    raise

    async def _answer(self, body: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        try:
            async with self._client.stream("POST", f"{self.url}/chat/completions", json=body) as answer:
                if answer.status_code != 200:
                    what = f"{self.url} answers {answer.status_code}: {await _beginning(answer)}"
                    raise RefusedError(what) if 400 <= answer.status_code < 500 else UpstreamError(what)
                async for line in self._lines(answer):
                    if not line.startswith(b"data:"):
                        continue
                    data = line[5:].strip()
                    if data == b"[DONE]":
                        return
                    yield self._object(data)
        except httpx.TimeoutException as error:
            raise UpstreamError(f"{self.url} has sent nothing for {self.stall:g} s.") from error
        except httpx.HTTPError as error:
            raise UpstreamError(f"{self.url} cannot be read: {error or type(error).__name__}.") from error

    async def _lines(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        """Lines as the protocol has them: a model's text may hold what Python takes for the end of one."""
        held = b""
        async for part in answer.aiter_bytes():
            *lines, held = (held + part).split(b"\n")
            for line in lines:
                yield line
            if len(held) > _LONGEST_LINE:
                raise UpstreamError(f"{self.url} sends a line of more than {_LONGEST_LINE >> 20} MB.")
        yield held

    def _object(self, data: bytes) -> dict[str, Any]:
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            chunk = None
        if not isinstance(chunk, dict):
            shown = data[:80].decode(errors="replace")
            raise UpstreamError(f"{self.url} sends what is no chunk of an answer: {shown!r}.")
        if "error" in chunk:
            raise UpstreamError(f"{self.url} says: {str(chunk['error'])[:300]}")
        return chunk


async def _beginning(answer: httpx.Response) -> str:
    """Of what says why there is no answer, which may go on without end."""
    said = b""
    async for part in answer.aiter_bytes(_TOLD):
        said += part
        if len(said) >= _TOLD:
            break
    return said[:_TOLD].decode(errors="replace")


def find_model(url: str, key: str | None, asked: str | None = None) -> str:
    """The model that a server has, or the one of its models that is asked for. Raises UpstreamError."""
    try:
        answer = httpx.get(f"{url}/models", headers=_headers(key), timeout=10)
        answer.raise_for_status()
        names = [str(one["id"]) for one in answer.json()["data"]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise UpstreamError(f"{url}/models gives no list of models ({error}); is the server up?") from error
    if asked is not None and asked not in names:
        raise UpstreamError(f"{url} has no model {asked!r}, but {', '.join(names)}.")
    if asked is None and len(names) != 1:
        raise UpstreamError(f"{url} has {len(names)} models ({', '.join(names)}); say which one.")
    return asked or names[0]


def _headers(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}
