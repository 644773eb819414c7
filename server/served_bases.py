"""The bases that a server serves: of each its names, its settings and its engines."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from server.engine.fleet import Fleet
from server.settings import Settings


class BasesAlike(ValueError):
    """Two of the bases that are to be served are the same one, or have the same name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"two of the bases are called {name}, by clients or in the registry: give each base "
            "a name and a model of its own"
        )


@dataclass(frozen=True, slots=True)
class ServedBase:
    """A base that the server serves.

    Attributes:
        name: its name in the registry.
        settings: those of the server, with what the base has of its own.
        fleet: its engines.
    """

    name: str
    settings: Settings
    fleet: Fleet = field(default_factory=Fleet, compare=False)

    @property
    def served_name(self) -> str:
        """Its name for clients and in its engines."""
        return self.settings.served_base

    @property
    def dtype(self) -> str:
        """The dtype of files that are merged for it."""
        return self.settings.merge_dtype

    @property
    def rank_limit(self) -> int:
        """The largest rank of an adapter that its engines load."""
        return self.settings.max_lora_rank


class ServedBases:
    """The bases of a server, by their names in the registry.

    Args:
        bases: at least one; the first answers requests that name none.

    Raises:
        BasesAlike: a name means two of them.
    """

    def __init__(self, bases: Iterable[ServedBase]) -> None:
        self._bases = tuple(bases)
        self._by_name: dict[str, ServedBase] = {}
        for base in self._bases:
            for name in {base.name, base.served_name}:
                if self._by_name.setdefault(name, base) is not base:
                    raise BasesAlike(name)

    @property
    def default(self) -> ServedBase:
        """The base that is meant where a request names none."""
        return self._bases[0]

    @property
    def names(self) -> frozenset[str]:
        """Their names in the registry."""
        return frozenset(base.name for base in self._bases)

    def called(self, name: str) -> ServedBase | None:
        """Return the base with this name, for clients or in the registry; None if none has it."""
        return self._by_name.get(name)

    @property
    def own_folders(self) -> bool:
        """Whether the engines' machines have folders of their own; see `Fleet`."""
        return self.default.fleet.own_folders

    def generations(self) -> dict[str, int]:
        """Return the generation of every engine that takes requests, by its name."""
        fleets = [base.fleet for base in self._bases]
        return {name: number for fleet in fleets for name, number in fleet.generations().items()}

    async def remove(self, digest: str) -> None:
        """Remove an artifact from every engine, whatever its base; see `Fleet.remove`.

        Bases whose engines are all lost are passed over, unless all are.

        Raises:
            EngineBusy, EngineUnavailable: not every engine has removed it; the files must stay.
        """
        up = [base.fleet for base in self._bases if base.fleet.available()]
        for fleet in up or [self.default.fleet]:
            await fleet.remove(digest)

    def without_engines(self, reason: str) -> "ServedBases":
        """Return the same bases with fleets that never have an engine."""
        return ServedBases(replace(base, fleet=Fleet(absent=reason)) for base in self._bases)

    def __getitem__(self, name: str) -> ServedBase:
        """Return the base with this name in the registry."""
        return next(base for base in self._bases if base.name == name)

    def __iter__(self) -> Iterator[ServedBase]:
        """Iterate over the bases in their order."""
        return iter(self._bases)

    def __str__(self) -> str:
        """Name all bases, as clients do: "A or B"."""
        return " or ".join(base.served_name for base in self._bases)
