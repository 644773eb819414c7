"""`weft explain`: what a `model` field means and would take, without building it."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from server.cli.client import Home, Key, Server, connect
from server.cli.console import AsJson, print_json, print_table, say, short, warn

_MB = 1e6


def explain(
    expression: Annotated[
        str, typer.Argument(help="What a request would name, e.g. 'lego(a, 0.5*b; rank=16)'.")
    ],
    prompt: Annotated[str, typer.Option(help="The text that auto(…) searches by.")] = "",
    home: Home = None,
    server: Server = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Explain what a model means and would take, without building it."""
    with connect(home, server, key, with_base=True) as api:
        answer = api.ask("GET", "explain", query={"model": expression, "prompt": prompt})
    if as_json:
        print_json(answer)
        return
    for line in _lines(answer):
        say(line)
    if answer["ingredients"]:
        names = [part["reference"] for part in answer["ingredients"]]
        columns = ("ingredient", "weight", "rank", "norm", "share", *(f"cos {n}" for n in names))
        print_table("Ingredients", columns, _rows(answer))
    for warning in answer["warnings"]:
        warn(warning["message"])


def _lines(answer: Mapping[str, Any]) -> Iterator[str]:
    yield f"{answer['kind']} for {answer['base']}"
    if answer["expression"]:
        yield answer["expression"]
    if answer["method"]:
        options = ", ".join(f"{name}={value}" for name, value in answer["options"].items())
        yield f"{answer['method']} with {options}"
        yield (
            f"rank {answer['rank']}, {answer['nbytes'] / _MB:,.1f} MB; the merge takes "
            f"{answer['seconds']:.2g} s or more, and {answer['memory_bytes'] / _MB:,.0f} MB or less"
        )
    if answer["artifact"]:
        yield f"artifact {short(answer['artifact'])}"
    elif answer["recipe"]:
        yield f"not built; recipe {short(answer['recipe'])}"


def _rows(answer: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    for part, cosines in zip(answer["ingredients"], answer["cosines"], strict=True):
        shown = ("-" if cosine is None else f"{cosine:.2f}" for cosine in cosines)
        yield (
            part["reference"], f"{part['weight']:g}", part["rank"], f"{part['norm']:.3g}",
            f"{part['share']:.0%}", *shown,
        )  # fmt: skip
