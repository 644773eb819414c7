"""The bases of a gateway that serves one base."""

from server.engine.fleet import Fleet
from server.engine.protocol import Engine
from server.served_bases import ServedBase, ServedBases
from server.settings import Settings


def serving(
    settings: Settings, *engines: Engine, absent: str | None = None, own_folders: bool = False
) -> ServedBases:
    """Return the base of the settings, which the registry knows by the name clients use."""
    fleet = Fleet(engines, absent=absent, own_folders=own_folders)
    return ServedBases([ServedBase(settings.served_base, settings, fleet)])
