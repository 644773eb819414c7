"""`weft search`, and what it searches: `weft adapters tag | examples`, `weft db embed`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from registry.references import check_name
from registry.search import MAX_EXAMPLE_CHARACTERS, MAX_EXAMPLES, MAX_LIMIT
from registry.types import EmbeddingKind
from server.cli.client import Home, Key, Server, connect, settings_of
from server.cli.console import AsJson, fail, print_json, print_table, progress_bar, say

AdapterName = Annotated[str, typer.Argument(help="The adapter's name.")]
# Fields of a JSON line that can hold its text, in order of preference.
_TEXT_KEYS = ("prompt", "input", "instruction", "question", "text")


def search(
    text: Annotated[str | None, typer.Argument(help="Text that describes the adapter.")] = None,
    like: Annotated[
        str | None, typer.Option(help="Similar to this adapter: name, name@3, name@alias, digest.")
    ] = None,
    by: Annotated[
        EmbeddingKind, typer.Option(help="The embedding that --like compares.")
    ] = "weights",
    examples: Annotated[
        Path | None,
        typer.Option(
            "--for",
            help=f"Good at these texts: one per line, or JSON lines; at most {MAX_EXAMPLES}.",
        ),
    ] = None,
    filter: Annotated[  # noqa: A002 - the option's name
        str, typer.Option(help="For example 'rank<=16 tag=legal,tax created>2026-01-01'.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIMIT, help="Largest number of hits.")] = 10,
    as_json: AsJson = False,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Find adapters by text, similarity, examples or filters."""
    query: dict[str, str | int | list[str] | None] = {
        "text": text, "like": like, "by": by, "filter": filter, "limit": limit,
    }  # fmt: skip
    if examples is not None:
        texts = read_examples(examples)[:MAX_EXAMPLES]
        query["example"] = [text[:MAX_EXAMPLE_CHARACTERS] for text in texts]
    with connect(home, server, key) as api:
        hits = api.ask("GET", "search", query=query)["hits"]
    if as_json:
        print_json(hits)
        return
    columns = ("adapter", "score", "why", "base", "rank", "tags", "licence", "owner", "created")
    print_table("Found", columns, map(_row, hits))


def _row(hit: Mapping[str, Any]) -> tuple[object, ...]:
    why = ", ".join(f"{reason['question']} {reason['cosine']:.2f}" for reason in hit["why"])
    return (
        hit["reference"], f"{hit['score']:.3f}" if why else "", why, hit["base"], hit["rank"],
        " ".join(hit["tags"]), hit["licence"] or "", hit["owner"], hit["created_at"][:10],
    )  # fmt: skip


def tag(
    name: AdapterName,
    tags: Annotated[list[str] | None, typer.Argument(help="Tags to add.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A tag to remove, repeatable.")] = None,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Add and remove tags of an adapter, and print its tags."""
    check_name(name)
    body = {"add": tags or [], "remove": remove or []}
    with connect(home, server, key) as api:
        current = api.ask("PATCH", "adapters", name, "-", "tags", json=body)["tags"]
    say(f"{name}: {' '.join(current) or 'no tags'}")


def set_examples(
    name: AdapterName,
    file: Annotated[Path, typer.Argument(help="A text per line, or JSON lines.")],
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Replace the examples that describe an adapter."""
    check_name(name)
    texts = read_examples(file)
    with connect(home, server, key) as api:
        api.ask("PUT", "adapters", name, "-", "examples", json={"examples": texts})
    say(f"{name}: {len(texts)} examples")


def embed(home: Home = None) -> None:
    """Compute missing embeddings, after an upgrade or a change of WEFT_TEXT_ENCODER."""
    from server.home import open_registry

    registry, _ = open_registry(settings_of(home))
    with progress_bar("embedding") as show:
        count = registry.search.embeddings.add_missing(show)
    say(f"{count} embeddings computed")


def read_examples(path: Path) -> list[str]:
    """Return the texts of a file: one per line, or in a .jsonl file one per object.

    Raises:
        typer.Exit: the file has no text or an invalid line; the reason is printed.
        OSError: the file cannot be read.
    """
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
        texts = [_text_of(json.loads(line)) for line in lines] if _is_json(path) else lines
    except (ValueError, RecursionError) as error:  # bad UTF-8, bad JSON
        raise fail(f"{path}: {error}") from error
    if not texts or None in texts:
        keys = ", ".join(_TEXT_KEYS)
        raise fail(f"{path}: expected a text per line, or JSON lines with one of {keys}, messages")
    return [text for text in texts if text is not None]


def _is_json(path: Path) -> bool:
    return path.suffix in (".jsonl", ".ndjson")


def _text_of(line: Any) -> str | None:
    """Return the text of a JSON line: the line itself, a field, or the first user message."""
    if isinstance(line, dict):
        text = next((line[key] for key in _TEXT_KEYS if isinstance(line.get(key), str)), None)
        messages = line.get("messages")
        turns = messages if text is None and isinstance(messages, list) else []
        users = [m.get("content") for m in turns if isinstance(m, dict) and m.get("role") == "user"]
        line = text if text is not None else next(iter(users), None)
    return line if isinstance(line, str) and line.strip() else None
