"""`weft search`, and what it goes by: `weft adapters tag | examples`, `weft db embed`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from registry.references import check_name
from registry.search.finder import MAX_LIMIT
from registry.types import EmbeddingKind
from server.admin.search import MAX_EXAMPLE_CHARACTERS, MAX_EXAMPLES
from server.cli.client import Home, Key, Server, connect
from server.cli.console import AsJson, explained, fail, print_json, print_table, progress_bar, say
from server.serve import open_registry
from server.settings import Settings

AdapterName = Annotated[str, typer.Argument(help="The adapter's name.")]
# Where a line of JSON may hold its text, in the order of preference.
_TEXT_KEYS = ("prompt", "input", "instruction", "question", "text")


@explained
def search(
    text: Annotated[str | None, typer.Argument(help="What is sought, in words.")] = None,
    like: Annotated[
        str | None, typer.Option(help="Near this adapter: name, name@3, name@alias, digest.")
    ] = None,
    by: Annotated[
        EmbeddingKind, typer.Option(help="The embedding by which --like is near.")
    ] = "weights",
    examples: Annotated[
        Path | None,
        typer.Option(
            "--for",
            help=f"Good at these: a text per line, or JSON lines; the first {MAX_EXAMPLES} count.",
        ),
    ] = None,
    filter: Annotated[  # noqa: A002 - the option's name
        str, typer.Option(help="For example 'rank<=16 tag=legal,tax created>2026-01-01'.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIMIT, help="How many at most.")] = 10,
    as_json: AsJson = False,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Find adapters by words, by likeness, by examples, by filters."""
    query: dict[str, str | int | list[str] | None] = {
        "text": text, "like": like, "by": by, "filter": filter, "limit": limit,
    }  # fmt: skip
    if examples is not None:
        shown = read_examples(examples)[:MAX_EXAMPLES]
        query["example"] = [example[:MAX_EXAMPLE_CHARACTERS] for example in shown]
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


@explained
def tag(
    name: AdapterName,
    tags: Annotated[list[str] | None, typer.Argument(help="Tags to give it.")] = None,
    remove: Annotated[
        list[str] | None, typer.Option(help="A tag to take away, repeatable.")
    ] = None,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Give an adapter tags, take others away, and print those it has then."""
    check_name(name)
    body = {"add": tags or [], "remove": remove or []}
    with connect(home, server, key) as api:
        after = api.ask("PATCH", "adapters", name, "-", "tags", json=body)["tags"]
    say(f"{name}: {' '.join(after) or 'no tags'}")


@explained
def set_examples(
    name: AdapterName,
    file: Annotated[Path, typer.Argument(help="A text per line, or JSON lines.")],
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Say by examples what an adapter is for, in place of those before."""
    check_name(name)
    texts = read_examples(file)
    with connect(home, server, key) as api:
        api.ask("PUT", "adapters", name, "-", "examples", json={"examples": texts})
    say(f"{name}: {len(texts)} examples")


@explained
def embed(home: Home = None) -> None:
    """Make the embeddings that are missing, after an upgrade or a change of WEFT_TEXT_ENCODER."""
    registry, _ = open_registry(Settings() if home is None else Settings(home=home))
    with progress_bar("embedding") as show:
        made = registry.search.embeddings.add_missing(show)
    say(f"{made} embeddings made")


def read_examples(path: Path) -> list[str]:
    """Return the texts of a file: one per line; of a .jsonl file those inside its objects.

    Raises:
        typer.Exit: it holds none, or a line that cannot be read; the reason is printed.
        OSError: it cannot be read.
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
    """Return the text of a JSON line: a string, a key's, or the first user message's."""
    if isinstance(line, dict):
        found = next((line[key] for key in _TEXT_KEYS if isinstance(line.get(key), str)), None)
        messages = line.get("messages")
        users = messages if found is None and isinstance(messages, list) else []
        said = [m.get("content") for m in users if isinstance(m, dict) and m.get("role") == "user"]
        line = found if found is not None else next(iter(said), None)
    return line if isinstance(line, str) and line.strip() else None
