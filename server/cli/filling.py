"""`weft store upload`: the files of a home, put into an object store."""

from server.cli.client import Home, settings_of
from server.cli.console import fail, progress_bar, say


def upload(home: Home = None) -> None:
    """Put the files of this home into the object store of WEFT_STORE, and change nothing here.

    Adapters, merged adapters, uploads and the folders of jobs are sent, unless they are there. Run
    it before the first server with WEFT_STORE, while none runs on the home.
    """
    from server.doctor.services import running_server
    from server.stores import upload_home

    settings = settings_of(home)
    if settings.store is None:
        raise fail("WEFT_STORE is not set: set it to the URL of an object store")
    if running_server(settings.home) is not None:
        raise fail(f"a server runs on {settings.home.resolve()}: stop it first")
    with progress_bar("uploading") as show:
        count = upload_home(settings, show)
    say(f"{count} folders and files of {settings.home.resolve()} are in {settings.store}")
