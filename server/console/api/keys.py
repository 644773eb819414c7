"""API keys, what they used, and the log of changes."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from server.console.api.client import Api, PageOf
from server.console.api.identity import Role


class Limits(BaseModel):
    """What a key may use in a minute; None is left to the server's settings."""

    requests: float | None = None
    tokens: float | None = None
    compositions: float | None = None
    build_seconds: float | None = None


class Key(BaseModel):
    """An API key, without the key itself."""

    name: str
    prefix: str
    role: Role
    namespace: str | None
    all_namespaces: bool
    limits: Limits
    created_at: datetime
    created_by: str
    last_used_at: datetime | None
    revoked_at: datetime | None


class NewKey(BaseModel):
    """A new key; the key itself is in no other answer."""

    key: str
    about: Key

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Leave the key out of the representation, so that no log has it."""
        return [("about", self.about)]


class Usage(BaseModel):
    """What a key used on a day (UTC)."""

    day: str
    key: str
    namespace: str | None
    requests: int
    prompt_tokens: int
    completion_tokens: int
    compositions: int
    build_seconds: float


class Change(BaseModel):
    """An entry of the log of changes."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


async def keys(api: Api, cursor: str | None = None) -> PageOf[Key]:
    """Return a page of keys, by name."""
    return await api.page(Key, "keys", cursor=cursor)


async def create_key(
    api: Api, name: str, role: Role, namespace: str | None, *, all_namespaces: bool
) -> NewKey:
    """Create a key."""
    body = {
        "name": name, "role": role, "namespace": namespace, "all_namespaces": all_namespaces,
    }  # fmt: skip
    return await api.send(NewKey, "POST", "keys", json=body)


async def set_limits(api: Api, name: str, limits: Limits) -> Key:
    """Replace the limits of a key."""
    return await api.send(Key, "PUT", "keys", name, "-", "limits", json=limits.model_dump())


async def revoke_key(api: Api, name: str) -> None:
    """Revoke a key permanently."""
    await api.do("DELETE", "keys", name)


async def usage(
    api: Api, cursor: str | None = None, *, key: str = "", since: str = "", limit: int = 20
) -> PageOf[Usage]:
    """Return a page of the usage by day and key, newest first."""
    query = {"key": key or None, "since": since or None}
    return await api.page(Usage, "usage", cursor=cursor, query=query, limit=limit)


async def audit(
    api: Api, cursor: str | None = None, *, actor: str = "", action: str = "", subject: str = ""
) -> PageOf[Change]:
    """Return a page of the log of changes, newest first."""
    query = {"actor": actor or None, "action": action or None, "subject": subject or None}
    return await api.page(Change, "audit", cursor=cursor, query=query)
