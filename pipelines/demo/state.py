"""The state of a training run in one file: weights, optimisers, place; of the plan that it belongs to, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from torch.optim import Optimizer

from trajkit.files import replacing


def save_state(
    file: Path,
    modules: Mapping[str, nn.Module],
    optimisers: Mapping[str, Optimizer],
    plan: str,
    place: Mapping[str, str],
) -> None:
    """Write the state, whole or not at all; no module is called as an optimiser is. Raises WriteError when it cannot be
    written."""
    from safetensors.torch import save

    tensors = {f"{name}.{k}": v for name, module in modules.items() for k, v in _weights(module).items()}
    for name, optimiser in optimisers.items():
        for i, state in optimiser.state_dict()["state"].items():
            tensors |= {f"{name}.{i}.{k}": v for k, v in state.items()}
    with replacing(file) as stream:
        stream.write(save({k: v.contiguous() for k, v in tensors.items()}, {**place, "plan": plan}))


def load_state(
    file: Path, modules: Mapping[str, nn.Module], optimisers: Mapping[str, Optimizer], plan: str
) -> dict[str, str] | None:
    """Put what `save_state` wrote into modules and optimisers; its `place`, or None where there is no file. Raises
    ValueError for another plan."""
    if not file.exists():
        return None
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        place = dict(opened.metadata())
        if place.pop("plan") != plan:
            raise ValueError(
                f"{file} belongs to a training run with other stages, settings or another seed; remove it, or choose "
                "another --work folder."
            )
        parts: dict[str, dict[str, Tensor]] = {}
        for key in opened.keys():  # noqa: SIM118 - not a mapping
            name, rest = key.split(".", 1)
            parts.setdefault(name, {})[rest] = opened.get_tensor(key)
    for name, module in modules.items():
        module.load_state_dict(parts[name], strict=False)  # tied weights stand once
    for name, optimiser in optimisers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in parts.get(name, {}).items():
            index, item = key.split(".", 1)
            state.setdefault(int(index), {})[item] = value
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return place


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return {k: v for k, v in module.state_dict().items() if k != "lm_head.weight"}
