"""The routes of `ENDPOINTS`, which `Relay` answers: chats, completions, responses and the like.

The document describes the fields that weft reads. All other fields reach vLLM unchanged.
"""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from server.auth import Chatter
from server.gateway import Gateway
from server.inference import ENDPOINTS
from server.openai.relay import Relay
from server.routing import engine_routes, hand_over

_MODEL = {
    "type": "string",
    "description": "A base, an adapter, a composition, a digest, or an expression.",
    "examples": ["legal@prod", "lego(legal, sql@prod; rank=16)"],
}
_COMPOSITION = {
    "type": "object",
    "required": ["method", "adapters"],
    "description": "What to merge, as JSON: the keys of a recipe file, with adapters by name. "
    "`model` is then absent or a base.",
    "properties": {
        "method": {"type": "string"},
        "adapters": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "weight": {"type": "number", "default": 1},
                    "weights": {"type": "object", "additionalProperties": {"type": "number"}},
                },
                "additionalProperties": False,
            },
        },
        "options": {"type": "object"},
        "dtype": {"type": "string"},
        "base": {"type": "string"},
    },
    "additionalProperties": False,
    "examples": [{
        "method": "linear",
        "adapters": [
            {"name": "legal@prod", "weight": 0.7, "weights": {"*.mlp.*": 0.2}}, {"name": "sql"},
        ],
        "options": {"rank": 16},
    }],
}  # fmt: skip
_STREAM = {"type": "boolean", "default": False, "description": "Send the answer as events."}
_MESSAGES = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["role"],
        "properties": {"role": {"type": "string"}, "content": {}},
    },
    "examples": [[{"role": "user", "content": "Which court has jurisdiction?"}]],
}
_PROMPT = {"examples": ["The court that has jurisdiction is"]}
_INPUT = {"examples": ["Which court has jurisdiction?"]}
_TOKENS = {"type": "array", "items": {"type": "integer"}, "examples": [[791, 5590]]}
# path -> what it does, and the field of the body that has the text, with its schema
_ROUTES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "/v1/chat/completions": (
        "Answer a conversation with the model that `model` names.", "messages", _MESSAGES,
    ),
    "/v1/completions": (
        "Complete a prompt with the model that `model` names.", "prompt", _PROMPT,
    ),
    "/v1/responses": (
        "Answer an input with the model that `model` names; nothing is kept.", "input", _INPUT,
    ),
    "/v1/embeddings": ("Embed texts, where the engine serves embeddings.", "input", _INPUT),
    "/tokenize": ("Return the tokens of a prompt or of a conversation.", "prompt", _PROMPT),
    "/detokenize": ("Return the text of tokens.", "tokens", _TOKENS),
}  # fmt: skip
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "vLLM's answer. Its `model` is the digest of the adapter that answered.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/event-stream": {"schema": {"type": "string"}},
        },
    }
}


def relay_of(gateway: Gateway) -> Relay:
    """Return the relay of a gateway."""
    return Relay(
        gateway.bases, gateway.meanings, gateway.provider, gateway.artifacts, gateway.stopping,
        gateway.pools, gateway.salts, gateway.meter, max_answers=gateway.settings.max_answers,
    )  # fmt: skip


def completions_router(relay: Relay) -> APIRouter:
    """Return the routes whose requests the engine answers."""
    router = engine_routes("", "inference")

    def add(path: str, sentence: str, name: str, schema: dict[str, Any]) -> None:
        async def endpoint(_: Chatter) -> None:
            """Stand for the relay in the document."""

        router.post(
            ENDPOINTS[path].path, name=path, response_class=StreamingResponse, responses=_ANSWER,
            description=sentence, openapi_extra=_body(name, schema),
        )(endpoint)  # fmt: skip

    for path, (sentence, name, schema) in _ROUTES.items():
        add(path, sentence, name, schema)
    hand_over(router, relay)
    return router


def _body(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the OpenAPI description of a body whose text is in the field `name`."""
    body = {
        "type": "object",
        "required": ["model", name],
        "properties": {
            "model": _MODEL,
            name: schema,
            "stream": _STREAM,
            "composition": _COMPOSITION,
        },
        "additionalProperties": True,
    }
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}}
