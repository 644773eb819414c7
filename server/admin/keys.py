"""`/registry/keys` and `/registry/audit`: API keys, and the log of changes.

An admin of a namespace manages the keys of that namespace, and reads its part of the log.
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
        """List keys by name, including revoked ones."""
        page = keys.page(cursor=cursor, limit=limit, caller=caller)
        return PageOf[KeyItem].of(KeyItem, page)

    @router.post("", status_code=201)
    def create_key(body: KeyBody, caller: Admin) -> NewKeyItem:
        """Create a key. The key is shown only in this response."""
        if caller.namespace not in (None, body.namespace):
            raise AccessDenied(
                f"Your key can create keys for the namespace {caller.namespace} only."
            )
        about, key = keys.create(
            body.name, role=body.role, namespace=body.namespace, actor=caller.name
        )
        return NewKeyItem(key=key, about=KeyItem.model_validate(about))

    @router.delete("/{key}", status_code=204, response_class=Response)
    def revoke_key(key: KeyName, caller: Admin) -> None:
        """Revoke a key permanently, within two seconds."""
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
        """List changes, newest first. A name as `subject` includes its versions."""
        page = audit.page(
            actor=actor, action=action, subject=subject, cursor=cursor, limit=limit, caller=caller
        )
        return PageOf[ChangeItem].of(ChangeItem, page)

    return router
