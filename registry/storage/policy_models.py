"""The table of composition policies."""

from datetime import datetime

from sqlalchemy import CheckConstraint, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from registry.storage.columns import Table
from registry.types import PolicyAction

_SELECTOR_LENGTH = 220  # "namespace:", "adapter:" or "tag:" and a name


class PolicyRow(Table):
    """A rule on compositions (`registry.access.policy_rules`); `second` is null without a pair."""

    __tablename__ = "policies"
    __table_args__ = (CheckConstraint("action IN ('allow', 'deny')", name="action"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    action: Mapped[PolicyAction] = mapped_column(String(20))
    first: Mapped[str] = mapped_column(String(_SELECTOR_LENGTH))
    second: Mapped[str | None] = mapped_column(String(_SELECTOR_LENGTH))
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(Text)
