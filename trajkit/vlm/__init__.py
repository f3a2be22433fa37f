"""Vision-language thinking models from Hugging Face: load one, prepare a prompt, find image tokens and thinking span."""
