"""Callers, roles and namespaces: the rules of access.

A caller has a role, and its rights extend to all namespaces, to one, or to none: then it sees what
is public and changes nothing. The namespace of a name is the part before its first slash; a name
without a slash is public. A name in a namespace is private to the namespace until it is published.
`registry.access.visibility` implements the same rules in SQL. Keys are in `registry.access.keys`,
and each route declares the role that it needs.
"""

from dataclasses import dataclass
from typing import Literal

from registry.errors import AccessDenied
from registry.types import Visibility

Role = Literal["read", "chat", "publish", "admin"]
# Each role includes the roles before it.
ROLES: tuple[Role, ...] = ("read", "chat", "publish", "admin")


# The namespace of a caller that has rights to none. No name is in it.
NO_NAMESPACE = ""


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What one key may use in a minute; None leaves a limit to the server's settings."""

    requests: int | None = None
    tokens: int | None = None
    compositions: int | None = None
    build_seconds: float | None = None


NO_LIMITS = KeyLimits()


@dataclass(frozen=True, slots=True)
class Caller:
    """The author of a request.

    `namespace` is None for rights to every namespace, and `NO_NAMESPACE` for rights to none.
    `limits` are those that were stored with its key.
    """

    name: str
    role: Role = "admin"
    namespace: str | None = None
    limits: KeyLimits = NO_LIMITS

    @property
    def operates(self) -> bool:
        """Whether it administers the whole server, and may reach the engine's own controls."""
        return self.role == "admin" and self.namespace is None

    @property
    def owner(self) -> str:
        """Whose share of the server its requests take: that of its namespace, or its own.

        A slash tells namespaces from names of keys.
        """
        return f"{self.namespace}/" if self.namespace else self.name

    def has_role(self, role: Role) -> bool:
        """Return whether this caller's role includes `role`."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def need_role(self, role: Role) -> None:
        """Raise AccessDenied unless this caller's role includes `role`."""
        if not self.has_role(role):
            raise AccessDenied(f"the request needs the role {role}, and your key has {self.role}")

    def need_everything(self) -> None:
        """Raise AccessDenied if this caller's rights are limited to a namespace."""
        if self.namespace is not None:
            raise AccessDenied(f"your key is for {self._rights} only")

    def need_name(self, name: str) -> None:
        """Raise AccessDenied unless this caller may create or change the object with this name."""
        if self.namespace not in (None, namespace_of(name)) or self.namespace == NO_NAMESPACE:
            raise AccessDenied(f"your key is for {self._rights} only")

    @property
    def _rights(self) -> str:
        if self.namespace == NO_NAMESPACE:
            return "reading what is public"
        return f"names that begin with {self.namespace}/"


# The caller with direct access to the database: the command line, and the gateway's own work.
LOCAL = Caller("local")


def namespace_of(name: str) -> str | None:
    """Return the part of a name before its first slash, or None if it has no slash."""
    namespace, slash, _ = name.partition("/")
    return namespace if slash else None


def visible(caller: Caller, name: str, visibility: Visibility) -> bool:
    """Return whether a name with this visibility is visible to a caller."""
    return caller.namespace in (None, namespace_of(name)) or visibility == "public"
