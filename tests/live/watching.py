"""What somebody who looks on sees of a run."""

from __future__ import annotations

import json

import httpx


def numbered(lines):
    """(number, event) of the lines of a server-sent stream."""
    number = None
    for line in lines:
        if line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("data: "):
            yield number, json.loads(line[6:])


def events_of(address, id_, after=None):
    """All events of a run that is over, or until it is; from the one behind number `after` on."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    return list(numbered(httpx.get(f"{address}/api/runs/{id_}/events", headers=headers, timeout=60).text.splitlines()))


def newest(address):
    """The row of the run that came last."""
    return httpx.get(f"{address}/api/runs").json()["runs"][0]
