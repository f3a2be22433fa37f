"""Writes the golden transcripts of inspect_scout with the real tool; README.md says with which version.

python make_scout.py FOLDER_OF_LOGS OUT

Run it on logs in a folder of a plain name, as transcripts hold its path.
"""

from __future__ import annotations

import asyncio
import sys

from inspect_scout import transcripts_db, transcripts_from


async def main(logs: str, out: str) -> None:
    async with transcripts_db(out) as database:
        await database.insert(transcripts_from(logs))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
