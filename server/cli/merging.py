"""`weft merge`: folders or a recipe file in, a merged folder out.

No server is needed, and no registry but for the names of a recipe file.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from merge.methods import METHODS
from merge.peft_format import AdapterFolder, FormatError, digest_folder, open_folder
from merge.recipe import OUTPUT_DTYPES, Member, plan
from merge.recipe_file import (
    DEFAULT_DTYPE,
    SUFFIXES,
    WrittenAdapter,
    WrittenRecipe,
    read_recipe_file,
)
from merge.run import merge as run_merge
from registry.bases import base_key, canonical_base
from registry.references import parse_reference
from server.cli.console import explained, fail, pairs, progress_bar, say
from server.compose.resolve import resolve_adapter
from server.serve import open_registry
from server.settings import Settings


@explained
def merge(
    what: Annotated[
        str,
        typer.Argument(
            metavar="METHOD|RECIPE",
            help=f"A merge method ({', '.join(sorted(METHODS))}), or a recipe file "
            f"({', '.join(SUFFIXES)}) that says everything else.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist or be empty.")],
    folders: Annotated[
        list[Path] | None, typer.Argument(help="PEFT adapter folders, in order.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="One number per folder, e.g. 0.7,-0.5; default: all 1.")
    ] = None,
    rank: Annotated[str | None, typer.Option(help="Rank of the result, or auto.")] = None,
    scale: Annotated[
        str | None, typer.Option(help="Factor on the result, or match (the ingredients' norm).")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed, for methods that draw.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="name=value, repeatable; METHODS.md lists them.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help=f"Output dtype: {', '.join(OUTPUT_DTYPES)}; default: {DEFAULT_DTYPE}."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Modules merged at once.")] = 2,
) -> None:
    """Merge adapter folders into one."""
    named: dict[str, object] = {"rank": rank, "scale": scale, "seed": seed}
    options = {name: value for name, value in named.items() if value is not None}
    if what.endswith(SUFFIXES):
        if folders or weights or options or option or dtype:
            raise fail(f"{what} says it all: beside a recipe file only --out and --threads count")
        written = read_recipe_file(Path(what))
    else:
        written = WrittenRecipe(
            method=what,
            adapters=_adapters(folders or [], weights),
            options=pairs(option or []) | options,
            dtype=dtype or DEFAULT_DTYPE,
            base=None,
        )
    _merge(written, out, threads)


def _merge(written: WrittenRecipe, out: Path, threads: int) -> None:
    paths = _locate(written.adapters)
    opened = [_open(path) for path in paths]
    base = written.base or _common_base(opened)
    members = [
        Member.from_folder(
            adapter.name or str(adapter.path), folder, adapter.weight, digest_folder(folder.path),
            base=_base_of(folder, base), patterns=adapter.patterns,
        )
        for adapter, folder in zip(written.adapters, opened, strict=True)
    ]  # fmt: skip
    recipe = plan(
        written.method, members, options=written.options, base=base, dtype=written.dtype,
        rank_limit=None,
    )  # fmt: skip
    by_digest = {member.digest: path for member, path in zip(members, paths, strict=True)}
    with progress_bar(f"merging {len(members)} adapters") as show:
        report = run_merge(recipe, by_digest, out, workers=threads, progress=show)
    say(f"{out}: {report.summary()}")


def _locate(adapters: Sequence[WrittenAdapter]) -> list[Path]:
    """Return the adapters' folders; the registry is opened only where a name asks for it."""
    by_name = {item.name: Path() for item in adapters if item.name is not None}
    if by_name:
        registry, versions = open_registry(Settings())
        for name in by_name:
            found = resolve_adapter(registry, parse_reference(name))
            by_name[name] = versions.path(found.digest)
    return [item.path or by_name[item.name or ""] for item in adapters]


def _open(path: Path) -> AdapterFolder:
    try:
        return open_folder(path)
    except FormatError as error:
        raise fail(f"{path}: {error}") from error


def _common_base(folders: Iterable[AdapterFolder]) -> str:
    """Return the first base that is named, one that is no mere path if there is any."""
    said = [folder.config.base for folder in folders if folder.config.base]
    return next((name for name in said if canonical_base(name)), said[0] if said else "")


def _base_of(folder: AdapterFolder, base: str) -> str:
    """Return `base` where the adapter says the same in any spelling, or nothing that tells."""
    said = folder.config.base
    if said is None or canonical_base(said) is None or base_key(said) == base_key(base):
        return base
    return said


def _adapters(folders: list[Path], weights: str | None) -> tuple[WrittenAdapter, ...]:
    numbers = [1.0] * len(folders) if weights is None else _numbers(weights)
    if len(numbers) != len(folders):
        raise fail(f"--weights has {len(numbers)} numbers for {len(folders)} folders")
    return tuple(
        WrittenAdapter(path, None, number, ())
        for path, number in zip(folders, numbers, strict=True)
    )


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise fail(f"--weights {text!r}: numbers with commas between them, e.g. 0.7,-0.5") from None
