"""Files that clients send, the jobs that they ask for, and what is told of these meanwhile.

Revision: 2026_11_25_0900, after 2026_11_22_0830.
"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_25_0900"
down_revision = "2026_11_22_0830"
branch_labels = None
depends_on = None

_ID = sa.String(40)
_MOMENT = sa.DateTime(timezone=True)
_NAME = sa.String(200)
_STATUSES = "'queued', 'running', 'succeeded', 'failed', 'cancelled'"


def upgrade() -> None:
    _create_files()
    _create_jobs()
    _create_job_events()


def downgrade() -> None:
    for table in ("job_events", "jobs", "files"):
        op.drop_table(table)


def _create_files() -> None:
    op.create_table(
        "files",
        sa.Column("id", _ID, nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("purpose", sa.String(60), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("namespace", _NAME, nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("removed_at", _MOMENT, nullable=True),
        sa.Column("removed_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_files"),
    )
    op.create_index("ix_files_created_at_id", "files", ["created_at", "id"])


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", _ID, nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("base", _NAME, nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("training_file", _ID, nullable=False),
        sa.Column("validation_file", _ID, nullable=True),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("namespace", _NAME, nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("started_at", _MOMENT, nullable=True),
        sa.Column("finished_at", _MOMENT, nullable=True),
        sa.Column("heartbeat_at", _MOMENT, nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("cancel_asked_at", _MOMENT, nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("trained_tokens", sa.BigInteger(), nullable=True),
        sa.Column("report", sa.JSON(), nullable=True),
        sa.CheckConstraint(f"status IN ({_STATUSES})", op.f("ck_jobs_status")),
        sa.ForeignKeyConstraint(["base"], ["bases.name"], "fk_jobs_base_bases"),
        sa.ForeignKeyConstraint(["training_file"], ["files.id"], "fk_jobs_training_file_files"),
        sa.ForeignKeyConstraint(["validation_file"], ["files.id"], "fk_jobs_validation_file_files"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_created_at_id", "jobs", ["created_at", "id"])
    op.create_index("ix_jobs_status_created_at", "jobs", ["status", "created_at"])


def _create_job_events() -> None:
    op.create_table(
        "job_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job", _ID, nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("level", sa.String(20), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.CheckConstraint("level IN ('info', 'warn', 'error')", op.f("ck_job_events_level")),
        sa.CheckConstraint(
            "kind IN ('message', 'metrics', 'candidate')", op.f("ck_job_events_kind")
        ),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], "fk_job_events_job_jobs"),
        sa.PrimaryKeyConstraint("id", name="pk_job_events"),
    )
    op.create_index("ix_job_events_job_id", "job_events", ["job", "id"])
