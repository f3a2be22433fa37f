"""The monitor and the policy that a request is served with: its own wishes, or the server's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajkit.detection.policies import Policy
from trajkit.errors import InputError

if TYPE_CHECKING:
    from trajkit.detection.monitor import Monitor
    from trajkit.live.request import Wish

_SAME = 1e-9


def monitor_for(wish: Wish, monitor: Monitor | None) -> Monitor | None:
    """The server's monitor. Raises InputError where a request asks for one that keeps another promise."""
    if wish.alpha is None:
        return monitor
    if monitor is None:
        raise InputError("alpha is the false-alarm rate of a monitor, and this server has none.")
    if abs(monitor.alpha - wish.alpha) > _SAME:
        raise InputError(
            f"this server's monitor was calibrated for alpha = {monitor.alpha:g}, and one for {wish.alpha:g} needs its "
            "calibration runs: serve detectors that were fitted with it (trajkit fit --alpha)."
        )
    return monitor


def policy_for(wish: Wish, policy: Policy | None) -> Policy | None:
    """The policy that a request asks for, or the server's own. Raises InputError as `Policy`."""
    further = {"tries": wish.tries, "start": wish.start, "hint": wish.hint}
    given = {name: value for name, value in further.items() if value is not None}
    if wish.policy is None:
        if given:
            raise InputError(f"trajkit.{min(given)} is about a policy; give trajkit.policy = 'ask again' too.")
        return policy
    return Policy(wish.policy, enough=policy.enough if policy else None, **given)  # type: ignore[arg-type]
