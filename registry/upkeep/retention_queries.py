"""The statements of retention: each removes a limited number of old rows."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import aliased

from registry.storage.database import ReadSession, WriteSession
from registry.storage.job_models import JobEventRow, JobRow
from registry.storage.models import (
    AdapterVersionRow,
    AuditRow,
    CompositionVersionRow,
    RecipeIngredientRow,
    RecipeRow,
)


def remove_events(session: WriteSession, before: datetime, limit: int) -> int:
    """Remove entries of the logs of jobs that ended before a moment; return their number."""
    ended = select(JobRow.id).where(JobRow.finished_at < before)
    old = select(JobEventRow.id).where(JobEventRow.job.in_(ended)).limit(limit)
    ids = session.scalars(old).all()
    session.execute(delete(JobEventRow).where(JobEventRow.id.in_(ids)))
    return len(ids)


def ended_jobs(session: ReadSession, before: datetime, some: Collection[str]) -> Sequence[str]:
    """Return which of some jobs ended before a moment."""
    return session.scalars(
        select(JobRow.id).where(JobRow.finished_at < before, JobRow.id.in_(some))
    ).all()


def remove_audit(session: WriteSession, before: datetime, limit: int) -> int:
    """Remove entries of the audit log that are older than a moment; return their number."""
    ids = session.scalars(select(AuditRow.id).where(AuditRow.at < before).limit(limit)).all()
    session.execute(delete(AuditRow).where(AuditRow.id.in_(ids)))
    return len(ids)


def remove_recipes(
    session: WriteSession, before: datetime, on_disk: Collection[str], limit: int
) -> int:
    """Remove recipes that are older than a moment and that nothing uses; return their number.

    The artifacts' own rows stay: other recipes may have made the same ones.
    """
    row, item = RecipeRow, aliased(RecipeIngredientRow)
    published = select(CompositionVersionRow.recipe_digest)
    versions = select(AdapterVersionRow.digest)
    unused = or_(
        row.artifact.is_(None),
        row.artifact.not_in(versions) & row.artifact.not_in(select(item.digest)),
    )
    old = select(row.digest, row.artifact).where(
        row.created_at < before, row.digest.not_in(published), unused
    )
    kept = set(on_disk)
    digests = []
    for digest, artifact in session.execute(old.order_by(row.digest)):
        if artifact not in kept:
            digests.append(digest)
        if len(digests) == limit:
            break
    session.execute(
        delete(RecipeIngredientRow).where(RecipeIngredientRow.recipe_digest.in_(digests))
    )
    session.execute(delete(RecipeRow).where(RecipeRow.digest.in_(digests)))
    return len(digests)
