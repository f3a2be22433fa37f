"""What a run is watched by: as the server is set up, but for what its request asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trajkit.attribution.explainer import Watching
from trajkit.detection.policies import Policy
from trajkit.errors import InputError

if TYPE_CHECKING:
    from trajkit.detection.monitor import Monitor
    from trajkit.live.request import Wish

_SAME = 1e-9


def wished(watching: Watching, wish: Wish) -> Watching:
    """The server's own watching with a request's alpha and policy.

    Raises InputError for an alpha that the monitor cannot keep, settings of a policy without one, and as `Policy` and
    `Policy.check`.
    """
    watching = replace(watching, monitor=_monitor(watching, wish))
    further = {"tries": wish.tries, "start": wish.start, "hint": wish.hint}
    given = {name: value for name, value in further.items() if value is not None}
    if wish.policy is None:
        if given:
            raise InputError(f"trajkit.{min(given)} is about a policy; give trajkit.policy = 'ask again' too.")
        return watching
    enough = watching.policy.enough if watching.policy else None
    asked = replace(watching, policy=Policy(wish.policy, enough=enough, **given))  # type: ignore[arg-type]
    asked.check()
    return asked


def _monitor(watching: Watching, wish: Wish) -> Monitor | None:
    """The server's own, at the alpha that a request asks for. `Policy.enough` keeps its own."""
    monitor = watching.monitor
    if wish.alpha is None:
        return monitor
    if monitor is None:
        raise InputError("alpha is the false-alarm rate of a monitor, and this server has none.")
    if abs(monitor.alpha - wish.alpha) <= _SAME:
        return monitor
    asked = monitor.at(wish.alpha)
    if not asked.can_alarm:
        raise InputError(asked.message)
    return asked


def facts(watching: Watching) -> dict[str, Any]:
    """What the server watches with, JSON-ready."""
    return {
        "fingerprint": watching.vlm.fingerprint,
        "regions": watching.estimator.binding.region_method,
        "alpha": watching.monitor.alpha if watching.monitor else None,
        "policy": watching.policy.on_alarm if watching.policy else "flag",
    }
