"""`weft node`: brings adapters from the object store to the engine of this machine."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from server.cli.console import fail


def node(
    engine_url: Annotated[
        str | None, typer.Option(help="The engine of this machine; default: WEFT_ENGINE_URL.")
    ] = None,
    store: Annotated[str | None, typer.Option(help="URL of the object store.")] = None,
    artifacts_dir: Annotated[
        Path | None, typer.Option(help="The folder from which the engine loads.")
    ] = None,
    artifact_budget_bytes: Annotated[int | None, typer.Option(help="Its size limit.")] = None,
    port: Annotated[int, typer.Option(help="Port to listen on, on 127.0.0.1.")] = 8010,
) -> None:
    """Bring adapters from the object store to the engine of this machine, as its plug-in asks.

    Start vLLM with WEFT_NODE_URL=http://127.0.0.1:8010 and WEFT_ARTIFACTS naming the same folder.
    """
    options = {
        name: value for name, value in locals().items() if value is not None and name != "port"
    }
    from server.cli.serving import log_to_stderr
    from server.node.serve import NodeUnusable, serve_node
    from server.settings import Settings

    settings = Settings(**options)
    log_to_stderr(settings.log_format)
    try:
        asyncio.run(serve_node(settings, port))
    except NodeUnusable as error:
        raise fail(str(error)) from None
