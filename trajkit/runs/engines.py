"""Who does the work of many parts of saved runs: this process, a pool of processes, or a Ray cluster.

All of them call the same function on the same parts and give what it returns in the order of the parts, so that the
numbers are the same to the last bit; a test holds them to that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

import pyarrow as pa

from trajkit.errors import InputError
from trajkit.ray_cluster import connected

Engine = Literal["local", "pool", "ray"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
_RETRIES = 3
"""Times that a Ray task is done again after its worker died."""


def work_through(
    work: Callable[[Any], pa.Table],
    parts: Sequence[Any],
    engine: Engine = "local",
    workers: int | None = None,
    address: str | None = None,
) -> Iterator[pa.Table]:
    """`work(part)` of every part, in order.

    engine: "local", in this process, one part after another; "pool", in `workers` processes (as many as there are
    cores by default); "ray", in as many tasks as the cluster at `address` has room for (a local one by default), each
    done again when its worker dies; then `work` must be importable, and the files reachable, on every node.
    Raises InputError for another engine or where Ray is not installed; what `work` raises is raised.
    """
    if engine not in ENGINES:
        raise InputError(f"The 'engine' parameter must be one of {', '.join(ENGINES)}. Got {engine!r} instead.")
    if engine == "pool":
        return _pool(work, parts, workers)
    if engine == "ray":
        return _ray(work, parts, workers, address)
    return map(work, parts)


def _pool(work: Callable[[Any], pa.Table], parts: Sequence[Any], workers: int | None) -> Iterator[pa.Table]:
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    workers = min(workers or os.cpu_count() or 1, len(parts) or 1)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:  # threads do not survive a fork
        waiting = [pool.submit(work, part) for part in parts[: 2 * workers]]
        rest = iter(parts[2 * workers :])
        try:
            while waiting:
                done = waiting.pop(0).result()
                if (part := next(rest, None)) is not None:
                    waiting.append(pool.submit(work, part))
                yield done
        except BrokenProcessPool as error:
            raise InputError(
                "a worker process ended before its work: killed, for memory perhaps (ask for fewer workers, or engine "
                "'local'), or started by a script whose own work is not below `if __name__ == '__main__':`."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _call(work: Callable[[Any], pa.Table], part: Any) -> pa.Table:
    return work(part)


def _ray(
    work: Callable[[Any], pa.Table], parts: Sequence[Any], workers: int | None, address: str | None
) -> Iterator[pa.Table]:
    ray = connected(address, workers)
    remote = ray.remote(max_retries=_RETRIES)(_call)
    most = 2 * max(int(ray.cluster_resources().get("CPU", 1)), 1)  # so that results do not pile up
    waiting = [remote.remote(work, part) for part in parts[:most]]
    rest = iter(parts[most:])
    while waiting:
        try:
            done = ray.get(waiting.pop(0))
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from None
        if (part := next(rest, None)) is not None:
            waiting.append(remote.remote(work, part))
        yield done
