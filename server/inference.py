"""The engine's routes that clients reach, and what weft reads and sets in a request to each."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route of the engine, which the gateway has under the same path.

    `uses_adapter`: the adapter answers; else the base does, whose tokenizer all adapters share.
    `asks_usage`: a stream ends with its usage only if `stream_options` asks for it.
    `keeps_answers`: the engine could keep answers for later requests, which may be others'.
    """

    path: str
    uses_adapter: bool = True
    asks_usage: bool = False
    keeps_answers: bool = False


ENDPOINTS: Mapping[str, Endpoint] = {
    endpoint.path: endpoint
    for endpoint in (
        Endpoint("/v1/chat/completions", asks_usage=True),
        Endpoint("/v1/completions", asks_usage=True),
        Endpoint("/v1/responses", keeps_answers=True),
        Endpoint("/v1/embeddings"),
        Endpoint("/tokenize", uses_adapter=False),
        Endpoint("/detokenize", uses_adapter=False),
    )
}
# LoRAX's routes, whose requests become completions (`server.lorax`).
LORAX_PATHS = frozenset({"/", "/generate", "/generate_stream"})
INFERENCE_PATHS = frozenset({*ENDPOINTS, *LORAX_PATHS})
