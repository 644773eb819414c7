"""The bases of a gateway that serves one base."""

from server.engine.fleet import Fleet
from server.engine.protocol import Engine
from server.served_bases import ServedBase, ServedBases
from server.settings import Settings


def serving(settings: Settings, *engines: Engine, absent: str | None = None) -> ServedBases:
    """Return the base of the settings, which the registry knows by the name clients use."""
    return ServedBases([ServedBase(settings.served_base, settings, Fleet(engines, absent=absent))])
