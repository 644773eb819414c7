"""The result of one check."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One part of an installation: how it is, and what to do unless it is well."""

    part: str
    state: State
    detail: str
    advice: str = ""


def ok(part: str, detail: str) -> Finding:
    """Return a finding of a part that works."""
    return Finding(part, "ok", detail)


def warning(part: str, detail: str, advice: str) -> Finding:
    """Return a finding of a part that works and may cause trouble."""
    return Finding(part, "warning", detail, advice)


def wrong(part: str, detail: str, advice: str) -> Finding:
    """Return a finding of a part that keeps weft from serving."""
    return Finding(part, "wrong", detail, advice)
