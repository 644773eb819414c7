"""`weft merge`: folders in, a merged folder out; no registry and no server needed."""

from pathlib import Path
from typing import Annotated

import typer

from merge.peft_format import digest_folder, open_folder
from merge.peft_io import OUTPUT_DTYPES
from merge.recipe import Member, plan
from merge.run import merge as run_merge
from server.cli.console import console, explained, fail, progress_bar


@explained
def merge(
    method: Annotated[str, typer.Argument(help="A merge method: cat, linear, lego.")],
    folders: Annotated[list[Path], typer.Argument(help="PEFT adapter folders, in order.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist or be empty.")],
    weights: Annotated[
        str | None, typer.Option(help="One number per folder, e.g. 0.7,-0.5; default: all 1.")
    ] = None,
    rank: Annotated[str | None, typer.Option(help="Rank of the result, or auto.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed, for methods that draw.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="name=value, repeatable; see the README's table.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help=f"Output dtype: {', '.join(OUTPUT_DTYPES)}.")
    ] = "bfloat16",
    threads: Annotated[int, typer.Option(min=1, help="Modules merged at once.")] = 2,
) -> None:
    """Merge adapter folders into one."""
    opened = [open_folder(folder) for folder in folders]
    numbers = _weights(weights, len(folders))
    base = next((folder.config.base for folder in opened if folder.config.base), "")
    members = [
        Member.from_folder(str(path), folder, weight, digest_folder(path), base=base)
        for path, folder, weight in zip(folders, opened, numbers, strict=True)
    ]
    options = _options(option or [], rank, seed)
    recipe = plan(method, members, options=options, base=base, dtype=dtype, rank_limit=None)
    by_digest = {member.digest: path for member, path in zip(members, folders, strict=True)}
    with progress_bar(f"merging {len(folders)} adapters") as show:
        report = run_merge(recipe, by_digest, out, workers=threads, progress=show)
    console.print(f"{out}: {report.summary()}", highlight=False, markup=False, soft_wrap=True)


def _weights(text: str | None, count: int) -> list[float]:
    if text is None:
        return [1.0] * count
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise fail(f"--weights {text!r}: numbers with commas between them, e.g. 0.7,-0.5") from None
    if len(numbers) != count:
        raise fail(f"--weights has {len(numbers)} numbers for {count} folders")
    return numbers


def _options(pairs: list[str], rank: str | None, seed: int | None) -> dict[str, object]:
    options: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise fail(f"--option {pair!r}: write name=value")
        options[name] = value
    if rank is not None:
        options["rank"] = rank
    if seed is not None:
        options["seed"] = seed
    return options
