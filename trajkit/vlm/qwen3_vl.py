"""Qwen3-VL (`qwen3_vl`)."""

from trajkit.vlm.adapter import Adapter, ProcessorParts

ADAPTER = Adapter(
    "qwen3_vl",
    "text_config",
    ProcessorParts(
        "qwen3_vl.processing_qwen3_vl",
        "Qwen3VLProcessor",
        "qwen2_vl.image_processing_pil_qwen2_vl",
        "Qwen2VLImageProcessorPil",
    ),
    ("Qwen/Qwen3-VL-8B-Thinking",),
)
