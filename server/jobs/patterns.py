"""Whether answers agree by a pattern, found out in a process of its own.

A regular expression can take for ever, and holds everything else in its process up while it does.
Blocking: call it off the event loop.
"""

import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection

from merge.adaptive.scoring.answers import agrees

_SECONDS = 30.0
Pairs = Sequence[tuple[str, str]]  # an answer, and the one that was expected


class PatternSlow(Exception):
    """A pattern took longer than it may."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the pattern took longer than {seconds:g} s: write a simpler one")


def agreements(pattern: str, pairs: Pairs, *, seconds: float = _SECONDS) -> tuple[bool, ...]:
    """Return for each pair whether the pattern finds the same in both.

    Raises:
        PatternSlow: as it says.
    """
    context = multiprocessing.get_context("spawn")
    found, sender = context.Pipe(duplex=False)
    child = context.Process(target=_find, args=(sender, pattern, list(pairs)), daemon=True)
    child.start()
    sender.close()
    try:
        if not found.poll(seconds):
            raise PatternSlow(seconds)
        marks: tuple[bool, ...] = found.recv()
    except EOFError:
        raise PatternSlow(seconds) from None  # killed: it had taken all the memory
    finally:
        child.kill()
        child.join()
        found.close()
    return marks


def _find(sender: Connection, pattern: str, pairs: Pairs) -> None:
    sender.send(tuple(agrees(pattern, *pair) for pair in pairs))
