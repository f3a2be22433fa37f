"""Qwen2.5-VL (`qwen2_5_vl`), on which Cosmos-Reason1 and MiMo-VL are built."""

from trajkit.vlm.adapter import Adapter, ProcessorParts

ADAPTER = Adapter(
    "qwen2_5_vl",
    "text_config",
    ProcessorParts(
        "qwen2_5_vl.processing_qwen2_5_vl",
        "Qwen2_5_VLProcessor",
        "qwen2_vl.image_processing_pil_qwen2_vl",
        "Qwen2VLImageProcessorPil",
    ),
    ("nvidia/Cosmos-Reason1-7B", "XiaomiMiMo/MiMo-VL-7B-RL"),
)
