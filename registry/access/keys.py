"""API keys. A key is shown once, when it is created; the database stores its SHA-256.

A key has 43 random characters (256 bits), so a hash without salt is sufficient. The name of a
revoked key is not reused, because audit entries refer to keys by name. A key for a namespace may
have a name inside it, such as `team/ci`, which no other namespace's admin meets. The rights of a
key's caller are in `registry.callers`.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from registry.access import audit
from registry.access import queries as access_queries
from registry.callers import LOCAL, NO_LIMITS, NO_NAMESPACE, Caller, KeyLimits, Role
from registry.errors import KeyNameTaken, KeyScopeInvalid, NameInvalid, UnknownKey
from registry.paging import Page, key_of, paged
from registry.storage.columns import now
from registry.storage.database import Database
from registry.storage.errors import Conflict
from registry.storage.insert import insert
from registry.storage.models import ApiKeyRow
from registry.storage.values import value_of

_MARK = "weft_"
_PREFIX_LENGTH = len(_MARK) + 4
_NAME = re.compile(r"[a-z][a-z0-9._-]{0,59}")
# The names of callers that no key stands for.
_RESERVED = re.compile(r"anybody|local|settings-[0-9]+")
_FORM = re.compile(rf"{_MARK}[A-Za-z0-9_-]{{43}}")
# The resolution of a key's last use: a write needs a transaction, so it is at most one a minute.
_LAST_USE_STEP = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """The record of a key, without the key itself."""

    name: str
    prefix: str
    role: Role
    namespace: str | None
    all_namespaces: bool
    limits: KeyLimits
    created_at: datetime
    created_by: str
    last_used_at: datetime | None  # with a resolution of one minute
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class LiveKeys:
    """The keys that are in use, as of one moment."""

    stamp: tuple[int, int]
    callers: Mapping[str, Caller]  # by the SHA-256 of the key

    @property
    def any(self) -> bool:
        """Whether a key was ever created; if so, every request needs a key."""
        return self.stamp[0] > 0

    def caller(self, key: str) -> Caller | None:
        """Return the caller of a key, or None if the key is unknown or revoked."""
        return self.callers.get(_digest(key)) if has_key_form(key) else None


class Keys:
    """The API keys of a registry. Threads may share one instance."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        name: str,
        *,
        role: Role,
        namespace: str | None = None,
        all_namespaces: bool = False,
        limits: KeyLimits = NO_LIMITS,
        actor: str = "local",
    ) -> tuple[ApiKey, str]:
        """Create a key and return its record and the key itself, which cannot be retrieved later.

        Args:
            name: the key's name, inside the namespace (`team/ci`) or not (`ci`).
            role: its role.
            namespace: the namespace that its rights extend to.
            all_namespaces: its rights extend to all of them; with neither, it sees what is
                public.
            limits: what it may use in a minute.
            actor: the author.

        Raises:
            NameInvalid: the name of the key or of the namespace is invalid.
            KeyScopeInvalid: the key could not do what its role is for.
            KeyNameTaken: another key, revoked or not, has this name.
        """
        _check_names(name, namespace)
        if namespace is not None and all_namespaces:
            raise KeyScopeInvalid(name, "give it one namespace or all of them, not both")
        if role in ("publish", "admin") and namespace is None and not all_namespaces:
            raise KeyScopeInvalid(
                name,
                f"without a namespace it sees what is public and changes nothing, which is no use "
                f"to the role {role}; give it a namespace (--namespace NAME), or ask for all of "
                "them (--all-namespaces)",
            )
        key = _MARK + secrets.token_urlsafe(32)
        row = ApiKeyRow(
            name=name, digest=_digest(key), prefix=key[:_PREFIX_LENGTH], role=role,
            namespace=namespace, all_namespaces=all_namespaces, limits=_stored(limits),
            created_at=now(), created_by=actor, revision=1,
        )  # fmt: skip
        with self._database.transaction() as session:
            try:
                insert(session, row)
            except Conflict as conflict:
                raise KeyNameTaken(name) from conflict
            detail = {"role": role, "namespace": namespace, "all_namespaces": all_namespaces}
            audit.record(session, actor, "key.created", name, **detail)
            return _record(row), key

    def set_limits(
        self, name: str, limits: KeyLimits, *, actor: str = "local", caller: Caller = LOCAL
    ) -> ApiKey:
        """Replace the limits of a key; those that are None are the server's again.

        Raises:
            UnknownKey: no key of this name is visible to the caller.
        """
        with self._database.transaction(caller) as session:
            row = access_queries.key(session, name)
            if row is None:
                raise UnknownKey(name)
            row.limits, row.revision = _stored(limits), row.revision + 1
            detail = {"namespace": row.namespace, "limits": row.limits}
            audit.record(session, actor, "key.limited", name, **detail)
            return _record(row)

    def revoke(self, name: str, *, actor: str = "local", caller: Caller = LOCAL) -> None:
        """Permanently revoke a key; revoking it again has no effect.

        Raises:
            UnknownKey: no key of this name is visible to the caller.
        """
        with self._database.transaction(caller) as session:
            row = access_queries.key(session, name)
            if row is None:
                raise UnknownKey(name)
            if row.revoked_at is None:
                row.revoked_at, row.revoked_by, row.revision = now(), actor, row.revision + 1
                audit.record(session, actor, "key.revoked", name, namespace=row.namespace)

    def page(
        self, *, cursor: str | None = None, limit: int = 100, caller: Caller = LOCAL
    ) -> Page[ApiKey]:
        """Return all keys, including revoked ones, sorted by name.

        Raises:
            CursorInvalid: the cursor does not belong to this list.
        """
        after = key_of("keys", cursor, str) or ""
        with self._database.read(caller) as session:
            keys = access_queries.keys(session, after, limit + 1)
            return paged("keys", keys, limit, lambda row: row.name, _record)

    def live(self, known: LiveKeys | None = None) -> LiveKeys:
        """Return the keys that are in use: `known` itself if nothing has changed since.

        A server keeps them, so that an unknown key costs no look-up.
        """
        with self._database.read() as session:
            stamp = access_queries.keys_stamp(session)
            if known is not None and stamp == known.stamp:
                return known
            rows = access_queries.live_keys(session)
            return LiveKeys(stamp, {row.digest: _caller(row) for row in rows})

    def used(self, names: Iterable[str]) -> None:
        """Record the use of keys, at most once a minute for each key."""
        with self._database.transaction(durable=False) as session:
            moment = now()
            access_queries.note_use(session, names, moment, moment - _LAST_USE_STEP)


def has_key_form(text: str) -> bool:
    """Return whether a text has the form of the keys that `Keys.create` makes."""
    return _FORM.fullmatch(text) is not None


def _check_names(name: str, namespace: str | None) -> None:
    place, slash, own = name.rpartition("/")
    if slash and place != namespace:
        raise NameInvalid(name[:100], "the key's own namespace before the slash")
    for text in (own,) if namespace is None else (own, namespace):
        if not _NAME.fullmatch(text):
            expected = "lower-case letters, digits and . _ - after a letter, at most 60"
            raise NameInvalid(text[:100], expected)
    if _RESERVED.fullmatch(name):
        raise KeyNameTaken(name)


def _record(row: ApiKeyRow) -> ApiKey:
    return value_of(ApiKey, row, limits=_limits(row))


def _caller(row: ApiKeyRow) -> Caller:
    namespace = row.namespace if row.namespace or row.all_namespaces else NO_NAMESPACE
    return Caller(row.name, row.role, namespace, _limits(row))


def _stored(limits: KeyLimits) -> dict[str, Any] | None:
    return {name: value for name, value in asdict(limits).items() if value is not None} or None


def _limits(row: ApiKeyRow) -> KeyLimits:
    return KeyLimits(**row.limits) if row.limits else NO_LIMITS


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
