"""What the database's driver says, as errors of this package."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from registry.storage.errors import (
    DatabaseSilent,
    DatabaseUnavailable,
    DatabaseUnreachable,
    StatementTimeout,
    ValueRefused,
)
from registry.storage.statement_limit import is_timeout


@contextmanager
def explained() -> Iterator[None]:
    """Convert errors of the driver into errors of this package."""
    try:
        yield
    except IntegrityError:
        raise  # `registry.storage.insert` converts it
    except DataError as error:
        raise ValueRefused(str(error.orig)) from error
    except (UnicodeEncodeError, OverflowError) as error:
        raise ValueRefused(str(error)) from error
    except DBAPIError as error:
        if is_timeout(error):
            raise StatementTimeout from error
        raise _unavailable(error) from error
    except PoolTimeout as error:
        raise DatabaseUnavailable("every connection is taken") from error


def _unavailable(error: DBAPIError) -> DatabaseUnavailable:
    reason = _first_reason(error)
    if isinstance(error.orig, TimeoutError):  # `registry.storage.patient` raises it
        return DatabaseSilent(reason)
    # There is no connection to a server, or it ended; SQLite has none.
    lost = error.connection_invalidated or getattr(error.orig, "sqlstate", "") is None
    if lost and isinstance(error, OperationalError):
        return DatabaseUnreachable(reason)
    return DatabaseUnavailable(reason)


def _first_reason(error: DBAPIError) -> str:
    """Return the message of the first error of the driver.

    A full disk ends SQLite's transaction; the rollback to a savepoint then fails with a misleading
    error.
    """
    reason, cause = str(error.orig), error.__context__
    while cause is not None:
        if isinstance(cause, DBAPIError) and not isinstance(cause, IntegrityError):
            reason = str(cause.orig)
        cause = cause.__context__
    return reason
