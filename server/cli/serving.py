"""`weft serve` and `weft demo`."""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.logging import RichHandler
from rich.status import Status

from server.cli.console import errors, explained
from server.settings import Settings


@explained
def serve(
    model: Annotated[str | None, typer.Option(help="The base: Hub id or folder.")] = None,
    served_base: Annotated[str | None, typer.Option(help="The base's name for clients.")] = None,
    home: Annotated[Path | None, typer.Option(help="Database, blobs, artifacts.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    engine_url: Annotated[str | None, typer.Option(help="A vLLM started elsewhere.")] = None,
    engine_args: Annotated[str | None, typer.Option(help="More arguments for vLLM.")] = None,
    max_lora_rank: Annotated[int | None, typer.Option(help="Largest rank served.")] = None,
    max_loras: Annotated[int | None, typer.Option(help="Adapters in one engine step.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Dtype of the engine.")] = None,
) -> None:
    """Serve the registry's adapters and their compositions over the OpenAI API.

    Every setting is also a WEFT_* variable; the command line wins.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    settings = Settings(**given)
    set_up_logging()
    from server.serve import serve as run

    async def ready(_stop: Callable[[], None]) -> None:
        spinner.stop()
        errors.print(
            f"ready: http://{settings.host}:{settings.port}/v1", highlight=False, markup=False
        )

    with starting(settings.served_base) as spinner:
        _run(run(settings, ready=ready))


@explained
def demo(
    once: Annotated[bool, typer.Option(help="Stop after the table.")] = False,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    home: Annotated[
        Path | None, typer.Option(help="Kept state; default: a temporary folder.")
    ] = None,
) -> None:
    """Serve the demo base, ask its adapters and two compositions, and print their answers."""
    set_up_logging()
    from server.cli.demo import run_demo

    with starting("the demo base") as spinner:
        _run(run_demo(once=once, port=port, home=home, started=spinner.stop))


@contextmanager
def starting(name: str) -> Iterator[Status]:
    """Say that an engine is starting, with a spinner on a terminal until it is stopped."""
    message = f"starting vLLM for {name}: it takes a minute or so"
    spinner = errors.status(message)
    if errors.is_terminal:
        spinner.start()
    else:
        errors.print(message, highlight=False, markup=False)
    try:
        yield spinner
    finally:
        spinner.stop()


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Run until done, Ctrl-C or SIGTERM; either way everything is taken down in order."""

    async def stoppable() -> None:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):  # `serve` puts gentler ones in their place
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await main

    with suppress(asyncio.CancelledError):
        asyncio.run(stoppable())


def set_up_logging() -> None:
    """Log to stderr, warnings of libraries and everything of ours."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=errors, show_path=False, markup=False)],
    )
    logging.getLogger("weft").setLevel(logging.INFO)
