"""`GET /registry/whoami`: the caller's own rights, so that a client offers only what it may do."""

from fastapi import APIRouter
from pydantic import Field

from registry.callers import NO_NAMESPACE, Role
from server.admin.schemas import Item
from server.auth import Reader
from server.routing import admin_routes


class CallerItem(Item):
    """A caller. Without a namespace it has rights to all of them, or reads what is public."""

    name: str = Field(examples=["team/ci"])
    role: Role = Field(examples=["publish"])
    namespace: str | None = Field(examples=["team"])
    all_namespaces: bool = Field(examples=[False])


def whoami_router() -> APIRouter:
    """Return the route."""
    router = admin_routes("", "keys")

    @router.get("/whoami")
    async def whoami(caller: Reader) -> CallerItem:
        """Return the name, the role and the namespace of the request's key."""
        return CallerItem(
            name=caller.name, role=caller.role,
            namespace=None if caller.namespace == NO_NAMESPACE else caller.namespace,
            all_namespaces=caller.namespace is None,
        )  # fmt: skip

    return router
