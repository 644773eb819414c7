"""`/registry/explain`: what a `model` field means and would take, without building it."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict

from merge.recipe import Recipe
from server.admin.bodies import MAX_TEXT, ModelBody
from server.admin.fields import PRINTABLE
from server.auth import Reader
from server.compose.explain import Explainer, Explanation, Kind, Warned
from server.compose.expression import MAX_LENGTH
from server.compose.resolve import Bare
from server.errors import RequestInvalid
from server.gateway import Gateway
from server.routing import admin_routes

Model = Annotated[
    str,
    Query(
        pattern=PRINTABLE, max_length=MAX_LENGTH, examples=["lego(legal, 0.5*sql; rank=16)"],
        description="What a request would name.",
    ),
]  # fmt: skip
Prompt = Annotated[
    str, Query(max_length=MAX_TEXT, description="The text that `auto(…)` searches by.")
]


_PART: JsonDict = {
    "reference": "legal@1", "digest": "9f86d081" * 8, "weight": 1.0, "rank": 16, "norm": 21.4,
    "share": 0.62,
}  # fmt: skip
_WARNING: JsonDict = {"code": "dominates", "message": "legal@1 has 2.4 times the norm of sql@3."}
_EXPLANATION: JsonDict = {
    "kind": "merge", "base": "acme/Llama-3.1-8B-Instruct",
    "expression": "lego(legal, 0.5*sql; rank=16)",
    "composition": {
        "method": "lego", "options": {"rank": 16},
        "adapters": [{"name": "legal", "weight": 1.0}, {"name": "sql", "weight": 0.5}],
    },
    "method": "lego", "options": {"rank": 16},
    "recipe": "60303ae2" * 8, "artifact": None, "rank": 16, "nbytes": 84_000_000,
    "memory_bytes": 900_000_000, "seconds": 2.1, "ingredients": [_PART], "cosines": [[1.0]],
    "warnings": [_WARNING], "report": None,
}  # fmt: skip


class PartBody(BaseModel):
    """An ingredient. `share` is its part of the sum of the weighted updates' norms."""

    model_config = ConfigDict(json_schema_extra={"example": _PART})

    reference: str
    digest: str
    weight: float
    rank: int
    norm: float
    share: float


class WarningBody(BaseModel):
    """Something to know before building."""

    model_config = ConfigDict(json_schema_extra={"example": _WARNING})

    code: Warned
    message: str


class ExplanationBody(BaseModel):
    """What a model means. A merge that was not built has no `artifact` and no `report`.

    `expression` and `composition` are two writings of one merge, as it was asked for; text has none
    for weights by pattern.
    """

    model_config = ConfigDict(json_schema_extra={"example": _EXPLANATION})

    kind: Kind
    base: str
    expression: str | None
    composition: dict[str, Any] | None
    method: str | None
    options: dict[str, Any]
    recipe: str | None
    artifact: str | None
    rank: int | None
    nbytes: int | None
    memory_bytes: int | None
    seconds: float | None
    ingredients: list[PartBody]
    cosines: list[list[float | None]]
    warnings: list[WarningBody]
    report: dict[str, Any] | None


_PREVIEW: JsonDict = {
    "recipe": "60303ae2" * 8, "ingredients": ["legal@1", "sql@3"], "modules": 224, "rank": 16,
    "sign_conflict": 0.31, "sign_conflicts": [[0.0, 0.31], [0.31, 0.0]],
    "energy": [0.42, 0.6, 0.71, 1.0],
}  # fmt: skip


class PreviewBody(BaseModel):
    """Where ingredients have opposite signs, and how much of their weighted sum a rank keeps.

    `energy[k - 1]` is the share of the squared norm in the best sum of rank k per module; `rank`
    is that of the merge. Signs of two ingredients without a common module are null.
    """

    model_config = ConfigDict(json_schema_extra={"example": _PREVIEW})

    recipe: str
    ingredients: list[str]
    modules: int
    rank: int
    sign_conflict: float | None
    sign_conflicts: list[list[float | None]]
    energy: list[float]


def explain_router(gateway: Gateway) -> APIRouter:
    """Return the route."""
    router = admin_routes("", "search")
    explainer = Explainer(gateway.resolver, gateway.settings.merge_threads)

    @router.get("/explain")
    def explain(caller: Reader, model: Model, prompt: Prompt = "") -> ExplanationBody:
        """Explain what a model means: ingredients, rank, bytes, seconds and warnings."""
        if not model.strip():
            raise RequestInvalid("`model` is empty. Name what to explain.", "model")
        return _body(explainer.explain(model.strip(), prompt, caller=caller))

    @router.post("/explain")
    def explain_body(body: ModelBody, caller: Reader) -> ExplanationBody:
        """Explain a model or a composition object, and write it both ways."""
        explanation = explainer.explain(
            body.named, body.prompt, composition=body.raw_composition, caller=caller
        )
        return _body(explanation)

    @router.post("/explain/preview")
    async def preview(body: ModelBody, caller: Reader) -> PreviewBody:
        """Measure the ingredients of a merge, without building it: signs, and energy by rank."""

        def named() -> tuple[Recipe, list[str]]:
            raw = body.raw_composition
            target = gateway.resolver.resolve(
                body.named, body.prompt, composition=raw, caller=caller
            )
            if isinstance(target, Bare) or target.recipe is None:
                raise RequestInvalid("A preview is of a merge. Name a composition.", "model")
            digests = [item.digest for item in target.recipe.ingredients]
            return target.recipe, [explainer.reference_of(d, caller=caller) for d in digests]

        recipe, references = await gateway.pools.search.run(named)
        found = await gateway.previews.of(recipe, caller=caller)
        return PreviewBody(
            recipe=recipe.digest(), ingredients=references, modules=found.modules, rank=found.rank,
            sign_conflict=found.conflict, sign_conflicts=[list(row) for row in found.conflicts],
            energy=list(found.energy),
        )  # fmt: skip

    return router


def _body(explanation: Explanation) -> ExplanationBody:
    return ExplanationBody.model_validate(asdict(explanation))
