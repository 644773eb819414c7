"""The console beside the demo: in a child process, so that a page never delays an answer.

It is started before the engine, which takes longer, and ends with the demo.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from server.children import Child, ChildDied, ChildFailed, ChildTimeout
from server.preflight import PortTaken, bound_socket

_HOST, _PORT = "127.0.0.1", 8766
_START_SECONDS = 30.0


@contextmanager
def console_beside(server: str) -> Iterator[Callable[[], str]]:
    """Run the console of a server; give what says where it is, or why it is not there."""
    if find_spec("nicegui") is None:
        yield lambda: 'pip install "weft[console]" adds a web console'
        return
    with Child[str](_serve, server) as child:

        def address() -> str:
            try:
                return f"the web console is on {next(child.messages(_START_SECONDS))}"
            except (ChildDied, ChildFailed, ChildTimeout) as error:
                return f"the web console did not start: {error}"

        yield address


def _serve(server: str, send: Callable[[str], None]) -> None:
    from server.console.app import run_console  # here: the extra may be missing

    try:
        with bound_socket(_HOST, _PORT) as bound:
            run_console(server, bound, ready=send)
    except PortTaken:  # by the console of another demo
        with bound_socket(_HOST, 0) as bound:
            run_console(server, bound, ready=send)
