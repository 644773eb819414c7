"""Connections to PostgreSQL that do not wait for ever for a server that is silent.

The process of such a server is stopped, or its disk hangs. Its kernel still acknowledges what is
sent, so TCP sees nothing wrong, and the server cannot end its own statements: the client must.
Imported only with a PostgreSQL URL, because psycopg is optional.
"""

from collections.abc import Generator
from time import monotonic
from typing import Any, TypeVar

from psycopg import Connection, OperationalError
from psycopg.errors import ConnectionTimeout
from sqlalchemy import Dialect, Engine, event
from sqlalchemy.pool import ConnectionPoolEntry

T = TypeVar("T")
PING_SECONDS = 2.0  # of silence, after which a connection of the pool is given up before its use
ASK_SECONDS = 10.0  # of silence in a statement that may take any time, before the server is asked
_INTERVAL_SECONDS = 0.1


class ServerSilent(OperationalError, TimeoutError):
    """The server is connected and does not answer."""


class PatientConnection(Connection[Any]):
    """A connection that closes itself when its server is silent.

    `patience` is the longest silence in seconds. None stands for any time, as long as the server
    accepts another connection.
    """

    patience: float | None = None

    def wait(
        self,
        gen: Generator[Any, Any, T],
        interval: float = _INTERVAL_SECONDS,
        timeout: float | None = None,
    ) -> T:
        """Run an exchange with the server. Raises ServerSilent: the server is silent."""
        return super().wait(self._listen(gen), interval, timeout)

    def _listen(self, exchange: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        """Pass an exchange on; psycopg resumes it when bytes arrive, or else every 0.1 s."""
        heard = monotonic()
        try:
            wanted = next(exchange)
            while True:
                ready = yield wanted
                if ready:
                    heard = monotonic()
                elif self.patience is None:
                    if monotonic() - heard > ASK_SECONDS:
                        self._ask()
                        heard = monotonic()
                elif monotonic() - heard > self.patience:
                    self._give_up(self.patience)
                wanted = exchange.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result

    def _ask(self) -> None:
        """Connect once more. Raises ServerSilent: there is no answer to that either."""
        try:
            Connection.connect(self.info.dsn, password=self.info.password).close()
        except ConnectionTimeout:
            self._give_up(ASK_SECONDS)
        except OperationalError:
            return  # a server that refuses, answers

    def _give_up(self, seconds: float) -> None:
        self.pgconn.finish()
        raise ServerSilent(f"it has been silent for {seconds:g} s")


def connect_patiently(engine: Engine) -> None:
    """Let `engine` make patient connections; while one is idle, its patience is short."""

    @event.listens_for(engine, "do_connect")
    def connect(
        _dialect: Dialect, _entry: ConnectionPoolEntry, arguments: Any, named: Any
    ) -> PatientConnection:
        try:
            return PatientConnection.connect(*arguments, **named)
        except ConnectionTimeout as error:
            raise ServerSilent("it accepts connections and does not greet") from error

    @event.listens_for(engine, "checkin")
    def idle(connection: PatientConnection | None, _entry: ConnectionPoolEntry) -> None:
        if connection is not None:  # it may have been closed meanwhile
            connection.patience = PING_SECONDS
