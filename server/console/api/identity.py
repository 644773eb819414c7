"""Who is signed in: the key's name, role and rights, as `/registry/whoami` says them."""

from typing import Literal

from pydantic import BaseModel

from server.console.api.client import Api

Role = Literal["read", "chat", "publish", "admin"]
_ROLES: tuple[Role, ...] = ("read", "chat", "publish", "admin")  # each includes those before it


class Identity(BaseModel):
    """The key of a session: what it is called and what it may do."""

    name: str
    role: Role
    namespace: str | None
    all_namespaces: bool

    def has(self, role: Role) -> bool:
        """Whether this role includes `role`."""
        return _ROLES.index(self.role) >= _ROLES.index(role)

    @property
    def operates(self) -> bool:
        """Whether it administers the whole server."""
        return self.role == "admin" and self.all_namespaces

    def may_change(self, name: str) -> bool:
        """Whether it may change an adapter or a composition of this name."""
        namespace, slash, _ = name.partition("/")
        own = slash != "" and namespace == self.namespace
        return self.has("publish") and (self.all_namespaces or own)


async def whoami(api: Api) -> Identity:
    """Return who the key of `api` is.

    Raises:
        Refused: the key is unknown, or the server does not answer.
    """
    return await api.get(Identity, "whoami")
