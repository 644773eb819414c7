"""`/registry/keys` and `/registry/audit`: who may call, and who did what.

An admin of a namespace sees and makes the keys of that namespace, and reads its part of the log.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from registry.errors import AccessDenied
from server.admin.bodies import KeyBody
from server.admin.fields import PRINTABLE, Cursor, KeyName, Limit
from server.admin.schemas import ChangeItem, KeyItem, NewKeyItem, PageOf
from server.auth import Admin
from server.gateway import Gateway
from server.routing import admin_routes

_Asked = Annotated[str | None, Query(pattern=PRINTABLE, max_length=300, examples=[None])]


def keys_router(gateway: Gateway) -> APIRouter:
    """Return the routes of keys."""
    router = admin_routes("/keys", "keys")
    keys = gateway.registry.access.keys

    @router.get("")
    def list_keys(caller: Admin, cursor: Cursor = None, limit: Limit = 20) -> PageOf[KeyItem]:
        """List keys by name, revoked ones too."""
        found = keys.page(cursor=cursor, limit=limit, caller=caller)
        return PageOf[KeyItem].of(KeyItem, found)

    @router.post("", status_code=201)
    def create_key(body: KeyBody, caller: Admin) -> NewKeyItem:
        """Make a key. The answer is the only place where it is ever shown."""
        if caller.namespace not in (None, body.namespace):
            raise AccessDenied(f"your key makes keys for {caller.namespace}/ only")
        about, key = keys.create(
            body.name, role=body.role, namespace=body.namespace, actor=caller.name
        )
        return NewKeyItem(key=key, about=KeyItem.model_validate(about))

    @router.delete("/{key}", status_code=204, response_class=Response)
    def revoke_key(key: KeyName, caller: Admin) -> None:
        """Make a key useless within two seconds, for good."""
        keys.revoke(key, actor=caller.name, caller=caller)

    return router


def audit_router(gateway: Gateway) -> APIRouter:
    """Return the route of the audit log."""
    router = admin_routes("", "audit")
    audit = gateway.registry.access.audit

    @router.get("/audit")
    def list_changes(
        caller: Admin, actor: _Asked = None, action: _Asked = None, subject: _Asked = None,
        cursor: Cursor = None, limit: Limit = 20,
    ) -> PageOf[ChangeItem]:  # fmt: skip
        """List changes, newest first; a name as subject stands for its versions too."""
        found = audit.page(
            actor=actor, action=action, subject=subject, cursor=cursor, limit=limit, caller=caller
        )
        return PageOf[ChangeItem].of(ChangeItem, found)

    return router
