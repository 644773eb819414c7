"""`/registry/policies`: rules on which adapters may be merged with which.

Rules are about all namespaces, so only admins without a namespace read and change them.
"""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from server.admin.bodies import PolicyBody
from server.admin.fields import Cursor, Limit
from server.admin.schemas import PageOf, PolicyItem
from server.auth import Operator
from server.gateway import Gateway
from server.routing import admin_routes

_Number = Annotated[int, Path(ge=1, lt=2**31, examples=[3])]


def policies_router(gateway: Gateway) -> APIRouter:
    """Return the routes of policies."""
    router = admin_routes("/policies", "policies")
    policies = gateway.registry.access.policies

    @router.get("")
    def list_policies(_: Operator, cursor: Cursor = None, limit: Limit = 20) -> PageOf[PolicyItem]:
        """List policies, oldest first."""
        return PageOf[PolicyItem].of(PolicyItem, policies.page(cursor=cursor, limit=limit))

    @router.post("", status_code=201)
    def add_policy(body: PolicyBody, caller: Operator) -> PolicyItem:
        """Add a policy, which applies at once, also to what was merged before."""
        made = policies.add(body.action, body.selectors, reason=body.reason, actor=caller.name)
        return PolicyItem.model_validate(made)

    @router.delete("/{number}", status_code=204, response_class=Response)
    def remove_policy(number: _Number, caller: Operator) -> None:
        """Remove a policy."""
        policies.remove(number, actor=caller.name)

    return router
