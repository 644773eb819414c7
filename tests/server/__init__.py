"""Unit tests of `server`: the real registry and merges, `FakeEngine` where vLLM would be."""
