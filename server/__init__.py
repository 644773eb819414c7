"""weft's server: the gateway that speaks the OpenAI API, the builds, and the engine behind it.

The only package that knows both the registry and the merge engine, and the only one with HTTP.
"""
