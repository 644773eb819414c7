"""API keys. A key is shown once, when it is created; the database stores its SHA-256.

A key has 43 random characters (256 bits), so a hash without salt is sufficient. The name of a
revoked key is not reused, because audit entries refer to keys by name. The rights of a key's caller
are in `registry.callers`.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from registry.access import audit
from registry.access import queries as access_queries
from registry.callers import LOCAL, Caller, Role
from registry.errors import KeyNameTaken, NameInvalid, UnknownKey
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
# The resolution of a key's last use: a write needs a transaction, so it is at most one a minute.
_LAST_USE_STEP = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """The record of a key, without the key itself."""

    name: str
    prefix: str
    role: Role
    namespace: str | None
    created_at: datetime
    created_by: str
    last_used_at: datetime | None  # with a resolution of one minute
    revoked_at: datetime | None


class Keys:
    """The API keys of a registry. Threads may share one instance."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self, name: str, *, role: Role, namespace: str | None = None, actor: str = "local"
    ) -> tuple[ApiKey, str]:
        """Create a key and return its record and the key itself, which cannot be retrieved later.

        Raises:
            NameInvalid: the name of the key or of the namespace is invalid.
            KeyNameTaken: another key, revoked or not, has this name.
        """
        for text in (name,) if namespace is None else (name, namespace):
            if not _NAME.fullmatch(text):
                expected = "lower-case letters, digits and . _ - after a letter, at most 60"
                raise NameInvalid(text[:100], expected)
        key = _MARK + secrets.token_urlsafe(32)
        row = ApiKeyRow(
            name=name, digest=_digest(key), prefix=key[:_PREFIX_LENGTH], role=role,
            namespace=namespace, created_at=now(), created_by=actor,
        )  # fmt: skip
        with self._database.transaction() as session:
            try:
                insert(session, row)
            except Conflict as conflict:
                raise KeyNameTaken(name) from conflict
            audit.record(session, actor, "key.created", name, role=role, namespace=namespace)
            return value_of(ApiKey, row), key

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
                row.revoked_at, row.revoked_by = now(), actor
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
            return paged("keys", keys, limit, lambda row: row.name, partial(value_of, ApiKey))

    def any(self) -> bool:
        """Return whether a key was ever created; if so, every request needs a key."""
        with self._database.read() as session:
            return access_queries.any_key(session)

    def caller(self, key: str) -> Caller | None:
        """Return the caller of a key, or None if the key is unknown or revoked."""
        with self._database.read() as session:
            row = access_queries.key_by_digest(session, _digest(key))
            if row is None or row.revoked_at is not None:
                return None
            return Caller(row.name, row.role, row.namespace)

    def used(self, names: Iterable[str]) -> None:
        """Record the use of keys, at most once a minute for each key."""
        with self._database.transaction() as session:
            moment = now()
            access_queries.note_use(session, names, moment, moment - _LAST_USE_STEP)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
