"""What is put on a frozen base: gated adapters, a fresh LoRA."""
