"""Tests of what is attached to a frozen base: gated adapters, a fresh LoRA."""
