"""Clients of the OpenAI API against a real engine, each in an environment of its own."""
