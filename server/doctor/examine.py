"""All checks of `weft doctor`, in the order in which they are printed."""

from collections.abc import Iterator

from server.doctor import folders, machine, services
from server.doctor.finding import Finding
from server.settings import Settings


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield the findings of an installation with these settings."""
    yield from machine.check_versions(settings)
    yield machine.check_plugin(settings)
    yield machine.check_gpu(settings)
    yield machine.check_compiler(settings)
    yield machine.check_memory(settings)
    yield from folders.check_folders(settings)
    yield from folders.check_permissions(settings)
    yield services.check_database(settings)
    yield services.check_store(settings)
    yield from services.check_server(settings)
    yield from services.check_bases(settings)
    yield from services.check_engines(settings)
