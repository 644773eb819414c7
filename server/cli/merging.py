"""`weft merge`: merge adapter folders, or a recipe file, into a folder.

It needs no server, and a registry only for the names in a recipe file.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from merge.methods import METHODS
from merge.peft_format import AdapterFolder, FormatError, digest_folder, open_folder
from merge.recipe import OUTPUT_DTYPES, Member, plan
from merge.recipe_document import DEFAULT_DTYPE, WrittenAdapter, WrittenRecipe
from merge.recipe_file import SUFFIXES, read_recipe_file
from merge.run import merge as run_merge
from registry.bases import base_key, canonical_base
from registry.references import parse_reference
from server.cli.client import settings_of
from server.cli.console import fail, pairs, progress_bar, say, warn
from server.compose.resolve import resolve_adapter
from server.home import open_registry


def merge(
    what: Annotated[
        str,
        typer.Argument(
            metavar="METHOD|RECIPE",
            help=f"A merge method ({', '.join(sorted(METHODS))}), or a recipe file "
            f"({', '.join(SUFFIXES)}) that sets everything else.",
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
    seed: Annotated[
        int | None, typer.Option(help="Seed of methods that draw random numbers.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="name=value, repeatable; METHODS.md lists them.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help=f"Output dtype: {', '.join(OUTPUT_DTYPES)}; default: {DEFAULT_DTYPE}."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="The base's name; needed where no adapter's config names one."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Processes of a large merge.")] = 2,
) -> None:
    """Merge adapter folders into one."""
    named: dict[str, object] = {"rank": rank, "scale": scale, "seed": seed}
    options = {name: value for name, value in named.items() if value is not None}
    if what.endswith(SUFFIXES):
        if folders or weights or options or option or dtype or base:
            raise fail(f"{what} is a recipe file: only --out and --threads apply beside it")
        written = read_recipe_file(Path(what))
    else:
        written = WrittenRecipe(
            method=what,
            adapters=_adapters(folders or [], weights),
            options=pairs(option or []) | options,
            dtype=dtype or DEFAULT_DTYPE,
            base=base,
        )
    _merge(written, out, threads)


def _merge(written: WrittenRecipe, out: Path, threads: int) -> None:
    paths = _locate(written.adapters)
    opened = [_open(path) for path in paths]
    base = _base_of_merge(written, opened)
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
    for note in report.notes:
        warn(note)


def _locate(adapters: Sequence[WrittenAdapter]) -> list[Path]:
    """Return the adapters' folders; the registry is opened only for names."""
    by_name = {item.name: Path() for item in adapters if item.name is not None}
    if by_name:
        registry, versions = open_registry(settings_of(None))
        digests = {
            name: resolve_adapter(registry, parse_reference(name)).digest for name in by_name
        }
        registry.access.policies.check({digest: name for name, digest in digests.items()})
        by_name = {name: versions.path(digest) for name, digest in digests.items()}
    return [item.path or by_name[item.name or ""] for item in adapters]


def _open(path: Path) -> AdapterFolder:
    try:
        return open_folder(path)
    except FormatError as error:
        raise fail(f"{path}: {error}") from error


def _base_of_merge(written: WrittenRecipe, folders: Sequence[AdapterFolder]) -> str:
    """Return the base that the recipe names, else the first that an adapter's config names.

    A local path is not a name: it means nothing on another machine, and the result's config would
    publish it. Prints a warning for adapters that are taken to be of the base without naming one.
    """
    if written.base is not None or not folders:
        return written.base or ""
    unnamed = [folder for folder in folders if _named_base(folder) is None]
    base = next(filter(None, map(_named_base, folders)), None)
    if base is None:
        raise fail(
            f"no adapter names its base ({_configured(unnamed[0])}): name it, for example "
            "--base meta-llama/Llama-3.1-8B-Instruct, or base: in a recipe file"
        )
    for folder in unnamed:
        warn(
            f"{_configured(folder)}, so it is merged as an adapter of {base}; if it is, name the "
            "base to drop this warning: --base, or base: in a recipe file"
        )
    return base


def _named_base(folder: AdapterFolder) -> str | None:
    """Return the base that the adapter's config names; None for no entry and for a local path."""
    base = folder.config.base
    return base if base and canonical_base(base) else None


def _configured(folder: AdapterFolder) -> str:
    path = folder.config.base
    config = f"gives the local path {path}" if path else "has no base_model_name_or_path"
    return f"{folder.path}: the config {config}"


def _base_of(folder: AdapterFolder, base: str) -> str:
    """Return `base` if the adapter names it in any spelling or names none, else its own base."""
    own = _named_base(folder)
    return base if own is None or base_key(own) == base_key(base) else own


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
