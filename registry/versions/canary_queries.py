"""The queries for results of canaries. They take a `ReadSession`, and none commits."""

from sqlalchemy import select

from registry.access.visibility import caller_of, recipe_visible
from registry.storage.database import ReadSession
from registry.storage.models import ArtifactRow, RecipeRow
from registry.storage.policy_models import CanaryRow


def is_artifact(session: ReadSession, digest: str) -> bool:
    """Return whether an artifact has this digest, visible or not."""
    return session.get(ArtifactRow, digest) is not None


def canary(session: ReadSession, artifact: str, prompts: str) -> CanaryRow | None:
    """Return the result of a set of prompts for an artifact, visible or not."""
    return session.get(CanaryRow, (artifact, prompts))


def newest_canary(session: ReadSession, artifact: str) -> CanaryRow | None:
    """Return the newest result for an artifact with a recipe that the caller can see."""
    visible = select(RecipeRow.artifact).where(
        RecipeRow.artifact == artifact, recipe_visible(caller_of(session), RecipeRow.digest)
    )
    query = select(CanaryRow).where(CanaryRow.artifact.in_(visible))
    return session.scalar(query.order_by(CanaryRow.created_at.desc()).limit(1))
