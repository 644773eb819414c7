"""What came of each source of an import, and the sums over many."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from registry.errors import AdmissionRefused, RegistryError
from registry.storage.errors import DatabaseUnavailable, FolderUnreadable, StorageFailed
from registry.types import Registration, Similar
from registry.versions.imports import Remembered


@dataclass(frozen=True, slots=True)
class Imported:
    """One source: a registration, what an earlier import of it came to, or why there is none."""

    source: str
    name: str
    outcome: Registration | Remembered | RegistryError

    @property
    def refused(self) -> bool:
        """True when the registry does not have it."""
        return self.version is None

    @property
    def fatal(self) -> RegistryError | None:
        """The error, when every other source would meet it too: the store or the database is."""
        error = self.outcome
        if not isinstance(error, StorageFailed | DatabaseUnavailable):
            return None
        return None if isinstance(error, FolderUnreadable) else error

    @property
    def version(self) -> str | None:
        """`name@number` of the version that the registry has of it."""
        if isinstance(self.outcome, Registration):
            return f"{self.name}@{self.outcome.version.number}"
        if isinstance(self.outcome, Remembered) and self.outcome.number is not None:
            return f"{self.name}@{self.outcome.number}"
        return None

    @property
    def digest(self) -> str | None:
        """The content that the registry has of it."""
        if isinstance(self.outcome, Registration):
            return self.outcome.version.digest
        return self.outcome.digest if isinstance(self.outcome, Remembered) else None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the registry does not have it, in sentences."""
        if isinstance(self.outcome, Remembered):
            return self.outcome.problems
        return (str(self.outcome),) if isinstance(self.outcome, RegistryError) else ()

    @property
    def similar(self) -> tuple[Similar, ...]:
        """The (near-)duplicates that a new version has."""
        return self.outcome.similar if isinstance(self.outcome, Registration) else ()

    @property
    def verdict(self) -> str:
        """One line of a table of sums: "admitted", or the reason why not.

        A refused adapter counts under the first code that refuses it.
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
    """Return how many adapters came to each verdict: admitted and known first, then by number."""
    counts = Counter(item.verdict for item in outcomes)
    good = {verdict: counts.pop(verdict, 0) for verdict in ("admitted", "known")}
    return good | dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
