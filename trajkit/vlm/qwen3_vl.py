"""Qwen3-VL (`qwen3_vl`): dense thinking and instruct models."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trajkit.vlm.adapter import Adapter


def _token_grid(config: Any, image_grid_thw: Tensor) -> list[tuple[int, int]]:
    merge = config.vision_config.spatial_merge_size
    return [(int(h) // merge, int(w) // merge) for _, h, w in image_grid_thw.tolist()]


def _image_features(model: Any, pixel_values: Tensor, image_grid_thw: Tensor) -> Tensor:
    return torch.cat(tuple(model.model.get_image_features(pixel_values, image_grid_thw).pooler_output))


ADAPTER = Adapter("qwen3_vl", "text_config", _token_grid, _image_features, {"mm_token_type_ids": 0})
