"""Many who look on at once, from a process of their own: `python -m tests.live.viewers ADDRESS N`.

Joins every run that comes, with N viewers, the first of which never reads. Ends when it is told so on stdin, and then
prints how many events each run's viewers have seen.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from urllib.parse import urlsplit


async def look_on(host, port, id_, seen, reads):
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET /api/runs/{id_}/events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    if not reads:
        reader._transport.pause_reading()
        await asyncio.sleep(3600)
    n = 0
    while line := await reader.readline():
        n += line.startswith(b"data: ")
        if line.startswith(b'data: {"event": "end"') or b'"event": "end"' in line:
            break
    seen[id_][n] += 1
    writer.close()


async def runs(host, port):
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET /api/runs HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
    text = (await reader.read()).split(b"\r\n\r\n", 1)[1]
    return [row["id"] for row in json.loads(text)["runs"] if row["state"] in ("waiting", "running")]


async def main(address, n):
    where, seen, tasks = urlsplit(address), {}, []
    told = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    print("ready", flush=True)
    while not told.done():
        for id_ in await runs(where.hostname, where.port):
            if id_ not in seen:
                seen[id_] = Counter()
                tasks += [
                    asyncio.create_task(look_on(where.hostname, where.port, id_, seen, reads=number > 0))
                    for number in range(n)
                ]
        await asyncio.sleep(0.05)
    if tasks:
        await asyncio.wait(tasks, timeout=2)
    print(json.dumps({id_: dict(counts) for id_, counts in seen.items()}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
