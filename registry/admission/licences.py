"""The licence of a merge: those of its ingredients, joined as an SPDX expression."""

from collections.abc import Iterable

from registry.admission.admit import AdmissionPolicy
from registry.admission.card import CARD_NAME
from registry.admission.findings import finding
from registry.types import Finding

_AND = " AND "
_UNKNOWN = "NOASSERTION"  # SPDX's word for a licence that is not stated


def joined(licences: Iterable[str | None]) -> str | None:
    """Return the licences of all ingredients, each once and sorted; None if none states one.

    An ingredient without a licence counts as NOASSERTION beside others. An ingredient that is a
    merge itself brings all its licences.
    """
    parts = {part for licence in licences for part in (licence or _UNKNOWN).split(_AND)}
    return _AND.join(sorted(parts, key=str.lower)) if parts - {_UNKNOWN} else None


def licence_finding(licence: str | None, policy: AdmissionPolicy) -> Finding | None:
    """Return the finding that refuses a merge, if the policy does not admit all its licences."""
    refused = {part.lower() for part in (licence or "none").split(_AND)} - policy.licences
    if not policy.licences or not refused:
        return None
    expected = f"only licences among {', '.join(sorted(policy.licences))}"
    return finding("A070 licence-refused", CARD_NAME, expected, licence or "none")
