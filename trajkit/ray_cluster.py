"""A Ray cluster to work on: one that is there already, or one of this machine."""

from __future__ import annotations

from typing import Any

from trajkit.errors import InputError


def connected(address: str | None = None, cpus: int | None = None) -> Any:
    """The module `ray`, connected to the cluster at `address`, or to one of this machine with so many `cpus` (all of
    them by default). One that this process is connected to already is taken as it is.

    Raises InputError where Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError("the engine 'ray' needs Ray: pip install 'trajkit[ray]'.") from error
    if not ray.is_initialized():
        ray.init(address=address, num_cpus=None if address else cpus, log_to_driver=False, include_dashboard=False)
    return ray
