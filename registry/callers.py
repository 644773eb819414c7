"""Callers, roles and namespaces: the rules of access.

A caller has a role and, unless it is for everything, a namespace. A name's namespace is what stands
before its first slash; names without one are public. What is in a namespace is private to it until
it is published. The rules are these functions; `registry.access.visibility` says the same in SQL.
Not covered: keys (`registry.access.keys`), and which role a route needs (the routes declare it).
"""

from dataclasses import dataclass
from typing import Literal

from registry.errors import AccessDenied
from registry.types import Visibility

Role = Literal["read", "chat", "publish", "admin"]
# Each role may do what those before it may.
ROLES: tuple[Role, ...] = ("read", "chat", "publish", "admin")


@dataclass(frozen=True, slots=True)
class Caller:
    """The author of a request; `namespace` is None for rights to every namespace."""

    name: str
    role: Role = "admin"
    namespace: str | None = None

    def has_role(self, role: Role) -> bool:
        """Say whether this caller's role includes `role`."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def need_role(self, role: Role) -> None:
        """Raise AccessDenied unless the role of this caller includes `role`."""
        if not self.has_role(role):
            raise AccessDenied(f"it needs the role {role}, and your key has {self.role}")

    def need_everything(self) -> None:
        """Raise AccessDenied when this caller's rights end at a namespace."""
        if self.namespace is not None:
            raise AccessDenied(f"your key is for {self.namespace}/ only")

    def need_name(self, name: str) -> None:
        """Raise AccessDenied unless this caller may change what has this name, or give it."""
        if self.namespace not in (None, namespace_of(name)):
            raise AccessDenied(f"your key is for names that begin with {self.namespace}/")


# Callers that have the database itself: the command line, and the gateway's own work.
LOCAL = Caller("local")


def namespace_of(name: str) -> str | None:
    """Return what stands before the first slash of a name, or None."""
    namespace, slash, _ = name.partition("/")
    return namespace if slash else None


def visible(caller: Caller, name: str, visibility: Visibility) -> bool:
    """Say whether a name that has this visibility is visible to a caller."""
    return caller.namespace in (None, namespace_of(name)) or visibility == "public"
