"""What weft promises, held against a real vLLM: one engine for the whole test session."""
