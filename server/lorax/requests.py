"""LoRAX's request, and the completion request that means the same.

Adapters are those of the registry: an id is what `model` may be. Merges are exact sums of updates,
weighted once, with DARE rescaled and seeded: LoRAX adds `a` and `b` apart, with weights on both,
so its numbers differ. What vLLM cannot do is refused by name.
"""

from typing import Any, Literal, TypeAlias

import msgspec

from server.errors import RequestInvalid

Strategy: TypeAlias = Literal["linear", "ties", "dare_linear", "dare_ties"]
_BASE_IDS = ("", "__base_model__")
_PRUNING, _SIGNED = ("ties", "dare_linear", "dare_ties"), ("ties", "dare_ties")


class MergedAdapters(msgspec.Struct, forbid_unknown_fields=True):
    """Adapters to merge, with a weight for each."""

    ids: list[str]
    weights: list[float] | None = None
    merge_strategy: Strategy | None = None
    density: float | None = None
    majority_sign_method: Literal["total", "frequency"] | None = None


class Parameters(msgspec.Struct, forbid_unknown_fields=True):
    """How to generate."""

    adapter_id: str | None = None
    adapter_source: str | None = None
    merged_adapters: MergedAdapters | None = None
    api_token: str | None = None
    do_sample: bool = False
    max_new_tokens: int | None = None
    ignore_eos_token: bool = False
    repetition_penalty: float | None = None
    return_full_text: bool | None = False
    stop: list[str] = []
    seed: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    truncate: int | None = None
    typical_p: float | None = None
    best_of: int | None = None
    watermark: bool = False
    details: bool = False
    decoder_input_details: bool = False
    return_k_alternatives: int | None = None
    response_format: dict[str, Any] | None = None


class Generate(msgspec.Struct, forbid_unknown_fields=True):
    """A request to `/`, `/generate` or `/generate_stream`."""

    inputs: str
    parameters: Parameters | None = None
    stream: bool = False

    @property
    def asked(self) -> Parameters:
        """The parameters, or those of a request without any."""
        return self.parameters or Parameters()


def read_generate(raw: bytes) -> Generate:
    """Return the request in a body.

    Raises:
        RequestInvalid: it is malformed, or asks for what weft does not have; the place is named.
    """
    try:
        request = msgspec.json.decode(raw, type=Generate)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise RequestInvalid(f"{error}.", None) from error
    asked = request.asked
    unable = {
        "typical_p": asked.typical_p is not None, "watermark": asked.watermark,
        "best_of": (asked.best_of or 1) > 1, "decoder_input_details": asked.decoder_input_details,
        "return_k_alternatives": asked.return_k_alternatives is not None,
    }  # fmt: skip
    for name, wanted in unable.items():
        if wanted:
            raise RequestInvalid(f"parameters.{name} is not supported. Leave it out.", name)
    if asked.adapter_source not in (None, "local"):
        raise RequestInvalid(
            f"parameters.adapter_source is {asked.adapter_source!r:.80}: weft serves the adapters "
            "of its registry. Import the adapter, and leave the source out.",
            "adapter_source",
        )
    if asked.adapter_id is not None and asked.merged_adapters is not None:
        raise RequestInvalid(
            "parameters has adapter_id and merged_adapters. Give one of them.", "adapter_id"
        )
    return request


def completion_of(request: Generate, *, base: str, stream: bool) -> bytes:
    """Return the body of the completion request that means the same.

    Raises:
        RequestInvalid: ids and weights of a merge do not match.
    """
    asked = request.asked
    sampled = asked.do_sample or any(
        value is not None for value in (asked.temperature, asked.top_k, asked.top_p)
    )
    body: dict[str, Any] = {
        "prompt": request.inputs,
        "stream": stream,
        "temperature": (1.0 if asked.temperature is None else asked.temperature) * sampled,
        "ignore_eos": asked.ignore_eos_token,
        **_model(asked, base),
    }
    if stream or asked.details:
        body |= {"logprobs": 0, "return_token_ids": True}
    if stream:
        body["stream_options"] = {"include_usage": True}
    optional = {
        "max_tokens": asked.max_new_tokens, "stop": asked.stop or None, "seed": asked.seed,
        "top_k": asked.top_k, "top_p": asked.top_p,
        "repetition_penalty": asked.repetition_penalty,
        "truncate_prompt_tokens": asked.truncate, "response_format": _format(asked),
    }  # fmt: skip
    return msgspec.json.encode(body | {k: v for k, v in optional.items() if v is not None})


def _model(asked: Parameters, base: str) -> dict[str, Any]:
    """Return the fields that say which adapter answers."""
    if asked.merged_adapters is not None:
        return {"composition": _composition(asked.merged_adapters)}
    return {"model": base if (asked.adapter_id or "") in _BASE_IDS else asked.adapter_id}


def _composition(merged: MergedAdapters) -> dict[str, Any]:
    weights = merged.weights or [1.0] * len(merged.ids)
    if len(weights) != len(merged.ids):
        raise RequestInvalid(
            f"merged_adapters has {len(merged.ids)} ids and {len(weights)} weights. Give one "
            "weight for each id, or no weights.",
            "merged_adapters",
        )
    method, options = merged.merge_strategy or "linear", dict[str, Any]()
    if method in _PRUNING and merged.density is not None:
        options["density"] = merged.density
    if method in _SIGNED and merged.majority_sign_method is not None:
        options["majority"] = merged.majority_sign_method
    pairs = zip(merged.ids, weights, strict=True)
    adapters = [{"name": name, "weight": weight} for name, weight in pairs]
    return {"method": method, "adapters": adapters, "options": options}


def _format(asked: Parameters) -> dict[str, Any] | None:
    """Return vLLM's form of a response format with a schema."""
    if asked.response_format is None or "schema" not in asked.response_format:
        return asked.response_format
    schema = {"name": "answer", "schema": asked.response_format["schema"]}
    return {"type": "json_schema", "json_schema": schema}
