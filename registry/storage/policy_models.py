"""The tables of composition policies and of canaries' results."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Double, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from registry.storage.columns import Table
from registry.types import PolicyAction

_DIGEST_LENGTH = 64
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


class CanaryRow(Table):
    """The result of a set of prompts for an artifact; `failures` is {number: CanaryFailure}."""

    __tablename__ = "canaries"

    artifact: Mapped[str] = mapped_column(ForeignKey("artifacts.digest"), primary_key=True)
    prompts: Mapped[str] = mapped_column(String(_DIGEST_LENGTH), primary_key=True)
    asked: Mapped[int]
    failures: Mapped[dict[str, Any]]
    seconds: Mapped[float] = mapped_column(Double)
    created_at: Mapped[datetime]
