"""Tests of weft against a real vLLM: one engine for the whole test session."""
