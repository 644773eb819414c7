"""The salt of the engine's prefix cache: who may meet whose prompts there.

vLLM keeps the prompts that it computed and says, or shows by its speed, whether a prompt begins as
an earlier one did. Requests meet in that cache only if their salts are equal: those of one
namespace, or of one key outside of all namespaces.
"""

import hashlib
import hmac
from collections.abc import Callable

from registry.callers import Caller
from server.pools import Pool


class CacheSalts:
    """The salts of callers. They are the same on every gateway of a registry."""

    def __init__(self, read_secret: Callable[[], bytes], pool: Pool) -> None:
        self._read_secret, self._pool = read_secret, pool
        self._secret: bytes | None = None

    async def of(self, caller: Caller) -> str:
        """Return the salt of a caller's requests: 64 hexadecimal digits.

        Raises:
            registry.errors.DatabaseUnavailable, PoolFull: the secret cannot be read.
        """
        if self._secret is None:
            self._secret = await self._pool.run(self._read_secret)
        return hmac.new(self._secret, caller.owner.encode(), hashlib.sha256).hexdigest()
