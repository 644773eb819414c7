"""Routes that adapters and compositions share: aliases, changes, visibility, retirement,
evaluations.
"""

from typing import Any, Literal

from fastapi import APIRouter, Depends, Response

from registry.references import Reference
from server.admin.bodies import AliasBody, EvaluationBody, VisibilityBody
from server.admin.fields import AliasName, Cursor, Limit, Name, Number
from server.admin.rules import check_alias_move
from server.admin.schemas import AliasItem, AliasMoveItem, ChangeItem, EvaluationItem, PageOf
from server.auth import Owner, Reader
from server.gateway import Gateway
from server.routing import admin_routes


def named_router(gateway: Gateway, kind: Literal["adapters", "compositions"]) -> APIRouter:
    """Return the routes below `/{kind}/{name}/-/` that both kinds have.

    Each depends on `known_here`, after the caller's rights: the name must be of this kind.
    """
    router = admin_routes(f"/{kind}/{{name:path}}/-", kind)
    registry = gateway.registry
    find = registry.catalogue.adapter if kind == "adapters" else registry.catalogue.composition

    def known(name: Name, caller: Reader) -> None:
        find(name, caller=caller)

    known_here = Depends(known)
    _add_aliases(router, gateway, known_here)
    _add_evaluations(router, gateway, known_here)

    @router.get("/changes")
    def list_changes(
        name: Name, caller: Reader, cursor: Cursor = None, limit: Limit = 20, _: None = known_here
    ) -> PageOf[ChangeItem]:
        """List who changed what of a name and its versions, newest first."""
        page = registry.history.changes(name, cursor=cursor, limit=limit, caller=caller)
        return PageOf[ChangeItem].of(ChangeItem, page)

    @router.put("/visibility", status_code=204, response_class=Response)
    def set_visibility(
        name: Name, body: VisibilityBody, caller: Owner, _: None = known_here
    ) -> None:
        """Make a name visible to every namespace, or to its own only."""
        registry.versions.set_visibility(name, body.visibility, caller.name, caller=caller)

    @router.delete("/versions/{number}", status_code=204, response_class=Response)
    def retire_version(name: Name, number: Number, caller: Owner, _: None = known_here) -> None:
        """Retire a version permanently. Versions that aliases point to cannot be retired."""
        reference = Reference(name=name, version=number)
        registry.versions.retire(reference, caller.name, caller=caller)

    return router


def _add_aliases(router: APIRouter, gateway: Gateway, known_here: Any) -> None:
    registry, protected = gateway.registry, gateway.settings.protected_aliases

    @router.get("/aliases")
    def list_aliases(
        name: Name,
        caller: Reader,
        cursor: Cursor = None,
        limit: Limit = 20,
        _: None = known_here,
    ) -> PageOf[AliasItem]:
        """List the aliases of a name."""
        page = registry.catalogue.aliases(name, cursor=cursor, limit=limit, caller=caller)
        return PageOf[AliasItem].of(AliasItem, page)

    @router.put("/aliases/{alias}")
    def move_alias(
        name: Name, alias: AliasName, body: AliasBody, caller: Owner, _: None = known_here
    ) -> AliasItem:
        """Point an alias to a version, from the next request on."""
        check_alias_move(caller, alias, protected)
        moved = registry.versions.set_alias(name, alias, body.version, caller.name, caller=caller)
        return AliasItem.model_validate(moved)

    @router.get("/alias-moves")
    def list_alias_moves(
        name: Name,
        caller: Reader,
        cursor: Cursor = None,
        limit: Limit = 20,
        _: None = known_here,
    ) -> PageOf[AliasMoveItem]:
        """List the moves of aliases, newest first."""
        page = registry.catalogue.alias_moves(name, cursor=cursor, limit=limit, caller=caller)
        return PageOf[AliasMoveItem].of(AliasMoveItem, page)


def _add_evaluations(router: APIRouter, gateway: Gateway, known_here: Any) -> None:
    evaluations = gateway.registry.evaluations

    @router.get("/evaluations")
    def list_all_evaluations(
        name: Name, caller: Reader, cursor: Cursor = None, limit: Limit = 20, _: None = known_here
    ) -> PageOf[EvaluationItem]:
        """List the evaluations of all versions of a name, newest first."""
        page = evaluations.page(name, cursor=cursor, limit=limit, caller=caller)
        return PageOf[EvaluationItem].of(EvaluationItem, page)

    @router.get("/versions/{number}/evaluations")
    def list_evaluations(
        name: Name,
        number: Number,
        caller: Reader,
        cursor: Cursor = None,
        limit: Limit = 20,
        _: None = known_here,
    ) -> PageOf[EvaluationItem]:
        """List the evaluations of a version, newest first."""
        page = evaluations.page(name, number, cursor=cursor, limit=limit, caller=caller)
        return PageOf[EvaluationItem].of(EvaluationItem, page)

    @router.post("/versions/{number}/evaluations", status_code=201)
    def record_evaluation(
        name: Name, number: Number, body: EvaluationBody, caller: Owner, _: None = known_here
    ) -> EvaluationItem:
        """Record an evaluation of a version."""
        made = evaluations.record(
            name, number, dataset=body.dataset, metric=body.metric, value=body.value, n=body.n,
            measured_at=body.measured_at, actor=caller.name, caller=caller,
        )  # fmt: skip
        return EvaluationItem.model_validate(made)
