"""GLM-4.1V (`glm4v`)."""

from trajkit.vlm.adapter import Adapter, ProcessorParts

ADAPTER = Adapter(
    "glm4v",
    "text_config",
    ProcessorParts(
        "glm4v.processing_glm4v", "Glm4vProcessor", "glm4v.image_processing_pil_glm4v", "Glm4vImageProcessorPil"
    ),
    ("zai-org/GLM-4.1V-9B-Thinking",),
    ("<answer>", "</answer>", "<|begin_of_box|>", "<|end_of_box|>"),
)
