"""`weft console`: the web console of a server."""

import webbrowser
from importlib.util import find_spec
from typing import Annotated

import typer

from server.cli.console import fail, say


def console(
    server: Annotated[str, typer.Option(envvar="WEFT_SERVER", help="URL of the server.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8766,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A name that browsers may open the console by; may be repeated."),
    ] = None,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the console in a browser.")
    ] = True,
) -> None:
    """Serve a web console of a server: see adapters, compose, compare, watch.

    Each user signs in with a key of the server. The console listens on this machine alone unless
    --host says otherwise; put a proxy with TLS in front of it before it listens further.
    """
    if find_spec("nicegui") is None:
        raise fail('the console needs more packages: pip install "weft[console]"')
    from server.console.app import run_console
    from server.preflight import bound_socket
    from server.sites import checked_url

    try:
        address = checked_url(server)
    except ValueError as error:
        raise fail(f"--server: {error}") from None

    def ready(url: str) -> None:
        say(f"console: {url}")
        if open_browser:
            webbrowser.open(url)

    with bound_socket(host, port) as bound:
        run_console(address, bound, hosts=allow_host or (), ready=ready)
