"""Secrets of a registry, which all of its gateways share. Each is made once, at random."""

import secrets
from contextlib import suppress

from registry.access import usage_queries
from registry.storage.database import Database
from registry.storage.errors import Conflict
from registry.storage.insert import insert
from registry.storage.usage_models import SecretRow

_BYTES = 32


def shared_secret(database: Database, name: str) -> bytes:
    """Return the secret of that name, 32 bytes; the first call makes it.

    Raises:
        registry.errors.DatabaseUnavailable: it cannot be read or made.
    """
    with database.read() as session:
        value = usage_queries.secret(session, name)
    if value is not None:
        return value
    with database.transaction() as session:
        with suppress(Conflict):  # another gateway makes it at the same time
            insert(session, SecretRow(name=name, value=secrets.token_bytes(_BYTES)))
        made = usage_queries.secret(session, name)
    assert made is not None
    return made
