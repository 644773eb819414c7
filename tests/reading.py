"""Adapters and compositions as tests look at them: everything of one name, oldest first."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from registry.service import Registry
from registry.types import AdapterVersion, Alias, AliasMove, CompositionVersion

V = TypeVar("V", AdapterVersion, CompositionVersion)


@dataclass(frozen=True)
class Named(Generic[V]):
    """The versions, aliases and alias moves of one name."""

    versions: tuple[V, ...]
    aliases: tuple[Alias, ...]
    alias_moves: tuple[AliasMove, ...]


def read_adapter(registry: Registry, name: str) -> Named[AdapterVersion]:
    """Return an adapter from the catalogue."""
    return _named(registry, name, registry.catalogue.adapter_versions(name, limit=1000).items)


def read_composition(registry: Registry, name: str) -> Named[CompositionVersion]:
    """Return a composition from the catalogue."""
    return _named(registry, name, registry.catalogue.composition_versions(name, limit=1000).items)


def _named(registry: Registry, name: str, versions: tuple[V, ...]) -> Named[V]:
    aliases = registry.catalogue.aliases(name, limit=1000).items
    moves = registry.catalogue.alias_moves(name, limit=1000).items
    return Named(versions[::-1], aliases, moves[::-1])
