"""The tables of usage by key, and of the registry's secrets."""

from sqlalchemy import BigInteger, Double, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.storage.columns import Table

_NAME_LENGTH = 200


class _Counts:
    requests: Mapped[int] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    compositions: Mapped[int] = mapped_column(BigInteger)
    build_seconds: Mapped[float] = mapped_column(Double)


class UsageDayRow(_Counts, Table):
    """What a key used on one day (UTC, as 2026-11-28). `namespace` is the key's on that day."""

    __tablename__ = "usage_days"

    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    key: Mapped[str] = mapped_column(String(_NAME_LENGTH), primary_key=True)
    namespace: Mapped[str | None] = mapped_column(String(_NAME_LENGTH))


class UsageMinuteRow(_Counts, Table):
    """What a key used in one minute (since 1970), for the limits. Old rows are removed."""

    __tablename__ = "usage_minutes"

    minute: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    key: Mapped[str] = mapped_column(String(_NAME_LENGTH), primary_key=True)


class SecretRow(Table):
    """A secret that all gateways of the registry share (`registry.access.secret`)."""

    __tablename__ = "secrets"

    name: Mapped[str] = mapped_column(String(_NAME_LENGTH), primary_key=True)
    value: Mapped[bytes] = mapped_column(LargeBinary)
