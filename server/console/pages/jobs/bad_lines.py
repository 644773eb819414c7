"""The bad lines of a file of examples, each as it stands in the file with what is wrong."""

from collections.abc import AsyncIterable, Collection, Mapping, Sequence
from dataclasses import dataclass

from server.console.api.examples import Param, Problem

_KEPT = 1200  # bytes of a line, which is shown as far as a table's cell goes


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of a file, and what is wrong with it; None where it is the whole file."""

    number: int | None
    text: str
    message: str


async def bad_lines(
    problems: Sequence[Problem], file: Param, chunks: AsyncIterable[bytes]
) -> list[BadLine]:
    """Return the bad lines of a file in its order, after what is wrong with all of it."""
    here = [problem for problem in problems if problem.file == file]
    texts = await lines_at(chunks, {problem.line for problem in here if problem.line is not None})
    lines = [BadLine(each.line, texts.get(each.line or 0, ""), each.message) for each in here]
    return sorted(lines, key=lambda line: line.number or 0)


async def lines_at(chunks: AsyncIterable[bytes], numbers: Collection[int]) -> Mapping[int, str]:
    """Return the beginnings of a file's lines at these numbers, which begin at 1."""
    kept = dict.fromkeys(numbers, b"")
    number = 1
    async for chunk in chunks:
        for at, part in enumerate(chunk.split(b"\n")):
            number += at > 0
            if number in kept:
                kept[number] = (kept[number] + part[:_KEPT])[:_KEPT]
    return {at: line.decode(errors="replace").rstrip("\r") for at, line in kept.items()}
