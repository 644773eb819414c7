"""`GET /v1/models`: what `model` may name, as a list; and one model, reference or expression."""

import json
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response

from merge.recipe import Recipe
from registry.callers import Caller
from registry.errors import UnknownReference
from registry.references import Reference
from registry.types import ResolvedAdapter, ResolvedArtifact
from server.auth import Reader
from server.compose.expression import parse_model
from server.compose.resolve import Planned
from server.gateway import Gateway
from server.openai.model_list import ModelList
from server.routing import openai_routes
from server.served_bases import ServedBase

_LIST: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"schema": {"type": "object"}}}}
}


def models_router(gateway: Gateway) -> APIRouter:
    """Return the routes for the models of the served bases."""
    router = openai_routes("/models", "models")
    registry, resolver, bases = gateway.registry, gateway.resolver, gateway.bases

    def cards(caller: Caller) -> list[dict[str, Any]]:
        models = [
            model
            for base in bases
            for model in registry.catalogue.models(base=base.name, caller=caller)
        ]
        own = [_base_card(base) for base in bases]
        return [*own, *(_card(m.id, m.kind, m.created_at, m.base) for m in models)]

    listed = ModelList(gateway.pools, registry.search.finder.revision, cards)

    def card(model: str, caller: Caller) -> dict[str, Any]:
        base = bases.called(model)
        if base is not None:
            return _base_card(base)
        reference = parse_model(model)
        if isinstance(reference, Reference):
            return referred(model, reference, caller)
        target = resolver.resolve(model, caller=caller)
        assert isinstance(target, Planned), "an expression without a prompt is a recipe"
        return _card(model, "expression", None, target.base) | parts(target.recipe)

    def referred(model: str, reference: Reference, caller: Caller) -> dict[str, Any]:
        meaning = registry.versions.resolve(reference, caller=caller)
        base = meaning.base
        if base not in bases.names:
            raise UnknownReference(model)
        catalogue = registry.catalogue
        if isinstance(meaning, ResolvedAdapter):
            pinned = Reference(name=meaning.name, version=meaning.number)
            version = catalogue.adapter_version(pinned, caller=caller)
            return _card(model, "adapter", version.created_at, base) | {"digest": version.digest}
        recipe = Recipe.parse(meaning.recipe_text)
        if isinstance(meaning, ResolvedArtifact):
            made = catalogue.artifact(meaning.digest, caller=caller)
            return _card(model, "artifact", made.created_at, base) | parts(recipe, made.digest)
        composed = catalogue.composition_version(meaning.name, meaning.number, caller=caller)
        return _card(model, "composition", composed.created_at, base) | parts(recipe)

    def parts(recipe: Recipe, digest: str | None = None) -> dict[str, Any]:
        document = json.loads(recipe.canonical())
        return {
            "digest": digest or registry.compositions.artifact_of(recipe.digest()),
            "recipe": recipe.digest(),
            **{name: document[name] for name in ("method", "options", "ingredients")},
        }

    @router.get("", responses=_LIST)
    async def list_models(caller: Reader) -> Response:
        """List each base, and the adapters, compositions and aliases for it that the key sees."""
        return Response(await listed.body(caller), media_type="application/json")

    @router.get("/{model:path}")
    async def get_model(model: str, caller: Reader) -> dict[str, Any]:
        """Return a model by name, reference, digest or expression, without merging anything.

        `digest` names the adapter that answers requests; it is null for a composition that has not
        been merged yet. A composition also has its `recipe` digest, `method`, `options` and
        `ingredients`, each with digest and weight.
        """
        return await gateway.pools.resolve.run(card, model, caller)

    return router


def _base_card(base: ServedBase) -> dict[str, Any]:
    return _card(base.served_name, "base", None, None)


def _card(id: str, kind: str, created: datetime | None, base: str | None) -> dict[str, Any]:  # noqa: A002 - the field's name
    """Return the fields that every model has; `created` is 0 where no moment is known."""
    card = {
        "id": id, "object": "model", "created": int(created.timestamp()) if created else 0,
        "owned_by": "weft", "kind": kind,
    }  # fmt: skip
    return card if base is None else card | {"parent": base}
