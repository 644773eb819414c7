"""Run the revisions on the connection of `registry.storage.database`, or on `-x url=…`.

By hand, from the project's root: `alembic -x url=sqlite:///weft.db upgrade head`.
Not covered: writing SQL scripts instead of running them (Alembic's offline mode).
"""

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine

from registry.storage.columns import in_metadata
from registry.storage.models import Table


def _run(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        import pgvector.sqlalchemy  # noqa: F401 - autogeneration learns the type's name from it
    context.configure(
        connection=connection,
        target_metadata=Table.metadata,
        compare_server_default=True,
        # SQLite's DDL is transactional too, once a transaction is begun explicitly.
        transactional_ddl=True,
        render_as_batch=connection.dialect.name == "sqlite",
        include_name=in_metadata,
    )
    with context.begin_transaction():
        context.run_migrations()


def _run_by_hand() -> None:
    url = context.get_x_argument(as_dictionary=True).get("url")
    if url is None:
        raise CommandError("which database? Say `alembic -x url=sqlite:///weft.db …`")
    with create_engine(url).connect() as connection:
        _run(connection)


if context.is_offline_mode():
    raise CommandError("weft's migrations run on a database only; leave --sql out")
handed_over = context.config.attributes.get("connection")
if handed_over is None:
    _run_by_hand()
else:
    _run(handed_over)
