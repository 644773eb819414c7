"""The outcome of each source of an import, and counts over many."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from registry.errors import AdmissionRefused, RegistryError
from registry.storage.errors import DatabaseUnavailable, FolderUnreadable, StorageFailed
from registry.types import Registration, Similar
from registry.versions.imports import Remembered


@dataclass(frozen=True, slots=True)
class Imported:
    """The outcome of one source: a registration, its stored earlier outcome, or an error."""

    source: str
    name: str
    outcome: Registration | Remembered | RegistryError

    @property
    def refused(self) -> bool:
        """True if the source became no version."""
        return self.version is None

    @property
    def fatal(self) -> RegistryError | None:
        """The error if it would stop every remaining source too (store or database unavailable)."""
        error = self.outcome
        if not isinstance(error, StorageFailed | DatabaseUnavailable):
            return None
        return None if isinstance(error, FolderUnreadable) else error

    @property
    def version(self) -> str | None:
        """`name@number` of the version that the source became, None if it was refused."""
        if isinstance(self.outcome, Registration):
            return f"{self.name}@{self.outcome.version.number}"
        if isinstance(self.outcome, Remembered) and self.outcome.number is not None:
            return f"{self.name}@{self.outcome.number}"
        return None

    @property
    def digest(self) -> str | None:
        """The digest of that version."""
        if isinstance(self.outcome, Registration):
            return self.outcome.version.digest
        return self.outcome.digest if isinstance(self.outcome, Remembered) else None

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons of a refusal, in sentences."""
        if isinstance(self.outcome, Remembered):
            return self.outcome.problems
        return (str(self.outcome),) if isinstance(self.outcome, RegistryError) else ()

    @property
    def similar(self) -> tuple[Similar, ...]:
        """The versions of the same or nearly the same content as a new version."""
        return self.outcome.similar if isinstance(self.outcome, Registration) else ()

    @property
    def verdict(self) -> str:
        """The row of the summary that counts this outcome: "admitted", "known" or the cause.

        A refused adapter counts under its first refusing code.
        """
        outcome = self.outcome
        if isinstance(outcome, Registration):
            return "admitted" if outcome.created else "known"
        if isinstance(outcome, Remembered):
            return "known" if outcome.digest is not None else _code(outcome.problems)
        if isinstance(outcome, AdmissionRefused):
            return _code([str(problem) for problem in outcome.report.problems])
        return type(outcome).__name__


def _code(problems: Iterable[str]) -> str:
    return next(iter(problems)).partition(":")[0]


def tally(outcomes: Iterable[Imported]) -> Mapping[str, int]:
    """Return the number of adapters by verdict: admitted and known first, then by number."""
    counts = Counter(item.verdict for item in outcomes)
    good = {verdict: counts.pop(verdict, 0) for verdict in ("admitted", "known")}
    return good | dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
