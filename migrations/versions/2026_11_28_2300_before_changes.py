"""A count of the changes to what references mean, kept by triggers.

Revision: 2026_11_28_2300, after 2026_11_28_2210.

Triggers count whatever writes, also a person with an SQL shell. On PostgreSQL a transaction counts
once, at its commit, so that writers wait for each other no longer than that.
"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_28_2300"
down_revision = "2026_11_28_2210"
branch_labels = None
depends_on = None

_WATCHED = (
    "names", "bases", "base_aliases", "adapters", "compositions", "adapter_versions",
    "composition_versions", "aliases", "adapter_tags", "policies",
)  # fmt: skip
# A new merge changes the meaning of no text that had one; a merge that is gone does.
_WATCHED_FOR_LOSS = ("artifacts", "recipes", "lineage")
_COUNT = "BEGIN UPDATE changes SET number = number + 1; END"
_COUNT_FUNCTION = """
CREATE FUNCTION weft_count_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('weft.counted', true) IS DISTINCT FROM txid_current()::text THEN
        UPDATE changes SET number = number + 1;
        PERFORM set_config('weft.counted', txid_current()::text, true);
    END IF;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    table = op.create_table(
        "changes",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", op.f("ck_changes_one")),
        sa.PrimaryKeyConstraint("id", name="pk_changes"),
    )
    op.bulk_insert(table, [{"id": 1, "number": 0}])
    postgresql = op.get_bind().dialect.name == "postgresql"
    if postgresql:
        op.execute(_COUNT_FUNCTION)
    make = _postgresql_triggers if postgresql else _sqlite_triggers
    for name in _WATCHED:
        make(name, ("INSERT", "UPDATE", "DELETE"))
    for name in _WATCHED_FOR_LOSS:
        make(name, ("DELETE",))


def _postgresql_triggers(name: str, events: tuple[str, ...]) -> None:
    op.execute(
        f"CREATE CONSTRAINT TRIGGER changes_{name} AFTER {' OR '.join(events)} ON {name} "
        "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION weft_count_change()"
    )


def _sqlite_triggers(name: str, events: tuple[str, ...]) -> None:
    for event in events:
        op.execute(
            f"CREATE TRIGGER changes_{name}_{event.lower()} AFTER {event} ON {name} {_COUNT}"
        )


def downgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    for name in (*_WATCHED, *_WATCHED_FOR_LOSS):
        if postgresql:
            op.execute(f"DROP TRIGGER changes_{name} ON {name}")
            continue
        for event in ("insert", "update", "delete"):
            op.execute(f"DROP TRIGGER IF EXISTS changes_{name}_{event}")
    if postgresql:
        op.execute("DROP FUNCTION weft_count_change")
    op.drop_table("changes")
