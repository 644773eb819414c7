"""`weft serve` and `weft demo`."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Self

import typer
from rich.logging import RichHandler
from rich.markup import escape

from server.cli.console import errors, fail
from server.telemetry.logs import Format, TerminalFormatter, set_up_logging

_log = logging.getLogger("weft.server")


def serve(
    model: Annotated[str | None, typer.Option(help="The base: Hub id or folder.")] = None,
    served_base: Annotated[str | None, typer.Option(help="The base's name for clients.")] = None,
    base: Annotated[
        list[str] | None,
        typer.Option(help="NAME=MODEL: a base; repeat it for several, instead of --model."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings.")] = None,
    home: Annotated[Path | None, typer.Option(help="Database, blobs, artifacts.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    max_model_len: Annotated[int | None, typer.Option(help="Context length in tokens.")] = None,
    max_lora_rank: Annotated[int | None, typer.Option(help="Largest rank served.")] = None,
    max_loras: Annotated[int | None, typer.Option(help="Adapters in one engine step.")] = None,
    max_cpu_loras: Annotated[int | None, typer.Option(help="Adapters kept in memory.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Dtype of the engine.")] = None,
    engine_url: Annotated[
        list[str] | None, typer.Option(help="A vLLM started elsewhere; may be repeated.")
    ] = None,
    engine_args: Annotated[str | None, typer.Option(help="More arguments for vLLM.")] = None,
    artifacts_dir: Annotated[Path | None, typer.Option(help="Merged adapters.")] = None,
    merge_workers: Annotated[int | None, typer.Option(help="Merges at the same time.")] = None,
) -> None:
    """Serve the base, the registry's adapters and their compositions over the OpenAI API.

    Every setting is also a WEFT_* variable and a key of weft.toml in the home; an option overrides
    the variable, the variable overrides the file.
    """
    options: dict[str, Any] = {name: value for name, value in locals().items() if value is not None}
    if base is not None:
        options["bases"] = _bases(options.pop("base"))
    from server.environment import forget_settings
    from server.serve import serve as run
    from server.settings import Settings

    settings = Settings(**options)
    forget_settings()
    log_to_stderr(settings.log_format)

    async def ready(_stop: Callable[[], None]) -> None:
        start.stop()
        start.say(f"ready: http://{settings.host}:{settings.port}/v1")

    names = " and ".join(own.served_base for own in settings.of_bases())
    with Start(names, as_log=settings.log_format == "json") as start:
        _run(run(settings, ready=ready, progress=start.show))


def _bases(options: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the setting `bases` of the options `--base NAME=MODEL`."""
    bases = {}
    for option in options:
        name, separator, model = option.partition("=")
        if not (name and separator and model):
            raise fail(f"--base takes NAME=MODEL, not {option}")
        bases[name] = {"model": model}
    return bases


def demo(
    once: Annotated[bool, typer.Option("--once", help="Stop after the tables.")] = False,
    tiny: Annotated[bool, typer.Option("--tiny", help="The tests' base: no download.")] = False,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    home: Annotated[
        Path | None, typer.Option(help="Folder to keep; default: a temporary one.")
    ] = None,
) -> None:
    """Serve the demo base, query its adapters and compositions, and print the answers."""
    log_to_stderr("text")
    logging.getLogger("weft").setLevel(logging.WARNING)  # the tables are what a reader looks for
    from server.cli.demo import run_demo

    with Start("the demo base") as start:
        main = run_demo(
            once=once, tiny=tiny, port=port, home=home, started=start.stop, progress=start.show
        )
        _run(main)


class Start:
    """The line that shows the engine's stage and the seconds since its start.

    On a terminal it is updated in place until `stop`; elsewhere each stage prints a line, or logs
    one with `as_log`.
    """

    def __init__(self, name: str, *, as_log: bool = False) -> None:
        self._name, self._stage, self._began = name, "", time.monotonic()
        self._as_log = as_log
        self._live = errors.is_terminal and not as_log
        self._line = errors.status("checking port, home and model")

    def __enter__(self) -> Self:
        if self._live:
            self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def show(self, stage: str) -> None:
        """Show the stage."""
        text = f"vLLM for {self._name}: {stage} ({time.monotonic() - self._began:.0f} s)"
        if self._live:
            self._line.update(escape(text))
        elif stage != self._stage:
            self.say(text)
        self._stage = stage

    def say(self, text: str) -> None:
        """Print or log a line."""
        if self._as_log:
            _log.info("%s", text)
        else:
            errors.print(text, highlight=False, markup=False, soft_wrap=True)

    def stop(self) -> None:
        """Remove the line."""
        self._line.stop()


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Run until done, Ctrl-C or SIGTERM; each ends everything in order."""
    import uvloop  # here: no other command needs it

    async def stoppable() -> None:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):  # `serve` puts gentler ones in their place
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await main

    with suppress(asyncio.CancelledError):
        uvloop.run(stoppable())


def log_to_stderr(log_format: Format) -> None:
    """Log in this format; text on a terminal goes through Rich, which keeps the line of `Start`."""
    if not errors.is_terminal:
        set_up_logging(log_format)
        return
    handler = RichHandler(console=errors, show_path=False, markup=False)
    handler.setFormatter(TerminalFormatter())
    set_up_logging(log_format, handler)
