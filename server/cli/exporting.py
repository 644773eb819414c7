"""`weft adapters export | push` and `weft artifacts export`: PEFT folders out of the registry."""

from pathlib import Path
from typing import Annotated

import typer

from merge.peft_format import digest_folder
from merge.peft_format.atomic_files import atomic_folder
from registry.sources.upload import unpack
from server.cli.client import Client, Home, Key, Server, ServerRefused, connect
from server.cli.console import say
from server.cli.versions import version_of

_Folder = Annotated[Path, typer.Argument(help="The folder to write; it must not exist.")]


def export_adapter(
    reference: Annotated[str, typer.Argument(help="name, name@3 or name@alias.")],
    folder: _Folder,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Write an adapter as a PEFT folder with a model card."""
    with connect(home, server, key) as api:
        name, number = version_of(api, "adapters", reference)
        digest = _write(api, folder, "adapters", name, "-", "versions", number, "files")
    say(f"{name}@{number} is in {folder}, digest {digest}")


def export_artifact(
    digest: Annotated[str, typer.Argument(help="The digest, or its first 12 or more characters.")],
    folder: _Folder,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Write a merged adapter as a PEFT folder with a model card."""
    with connect(home, server, key) as api:
        whole = _write(api, folder, "artifacts", digest, "files")
    say(f"the merge is in {folder}, digest {whole}")


def _write(api: Client, folder: Path, *path: str | int) -> str:
    """Write an export to `folder`, whole or not at all, and return its digest.

    Raises:
        FileExistsError: `folder` is there and not empty.
        ServerRefused: with the server's message, or when other bytes arrived than were sent.
    """
    with atomic_folder(folder) as partial:
        return receive(api, partial, *path)


def receive(api: Client, folder: Path, *path: str | int) -> str:
    """Fill an empty folder with an export, and return its digest.

    Raises:
        ServerRefused: with the server's message, or when other bytes arrived than were sent.
    """
    with api.download(*path) as answer:
        unpack(answer.iter_bytes(), folder, int(answer.headers["content-length"]))
        digest = answer.headers["x-weft-digest"]
    if (actual := digest_folder(folder)) != digest:
        raise ServerRefused(f"the files of {digest} arrived with the digest {actual}: export again")
    return digest
