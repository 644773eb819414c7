"""`/registry/keys` and `/registry/audit`: API keys, and the log of changes.

An admin of a namespace manages the keys of that namespace, whose names begin with it, and reads
its part of the log.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from registry.callers import NO_LIMITS, Caller
from registry.errors import AccessDenied
from server.admin.bodies import KeyBody, LimitsBody
from server.admin.fields import PRINTABLE, Cursor, KeyName, Limit
from server.admin.schemas import ChangeItem, KeyItem, NewKeyItem, PageOf
from server.auth import Admin, Operator
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
        about, key = keys.create(
            _name(body, caller), role=body.role, namespace=body.namespace,
            all_namespaces=body.all_namespaces,
            limits=NO_LIMITS if body.limits is None else body.limits.limits(), actor=caller.name,
        )  # fmt: skip
        return NewKeyItem(key=key, about=KeyItem.model_validate(about))

    @router.put("/{key:path}/-/limits")
    def set_limits(key: KeyName, body: LimitsBody, caller: Operator) -> KeyItem:
        """Replace the limits of a key, within two seconds. Null leaves one to the settings."""
        changed = keys.set_limits(key, body.limits(), actor=caller.name, caller=caller)
        return KeyItem.model_validate(changed)

    @router.delete("/{key:path}", status_code=204, response_class=Response)
    def revoke_key(key: KeyName, caller: Admin) -> None:
        """Revoke a key permanently, within two seconds."""
        keys.revoke(key, actor=caller.name, caller=caller)

    return router


def _name(body: KeyBody, caller: Caller) -> str:
    """Return the name of a key to create.

    Names outside a namespace are the whole server's: whether one is taken is none of the business
    of a namespace's admin.

    Raises:
        AccessDenied: the caller may not create it.
    """
    if caller.namespace is None:
        return body.name
    if body.namespace != caller.namespace or body.all_namespaces:
        raise AccessDenied(f"Your key can create keys for the namespace {caller.namespace} only.")
    if body.limits is not None:
        raise AccessDenied("Only a key for all namespaces can set the limits of keys.")
    return body.name if "/" in body.name else f"{caller.namespace}/{body.name}"


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
