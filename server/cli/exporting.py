"""`weft adapters export | push` and `weft artifacts export`: PEFT folders out of the registry."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from merge.peft_format import digest_folder
from merge.peft_format.atomic_files import atomic_folder
from registry.sources.hub_address import parse_address
from registry.sources.hub_push import push_folder
from registry.sources.upload import unpack
from server.cli.client import Client, Home, Key, Server, ServerRefused, connect, settings_of
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


def push_adapter(
    reference: Annotated[str, typer.Argument(help="name, name@3 or name@alias.")],
    target: Annotated[str, typer.Argument(help="hf:owner/name, or hf:owner/name@branch#folder.")],
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody on the Hub read the repository.")
    ] = False,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Publish an adapter on the Hugging Face Hub, with a model card.

    The token is that of this machine: HF_TOKEN, or of `hf auth login`. A repository that does not
    exist is created, private unless --public.
    """
    address = parse_address(target)
    with connect(home, server, key) as api, TemporaryDirectory(prefix="weft-push-") as folder:
        name, number = version_of(api, "adapters", reference)
        digest = receive(api, Path(folder), "adapters", name, "-", "versions", number, "files")
        pushed = push_folder(
            Path(folder), address, f"{name}@{number} of weft, digest {digest}",
            endpoint=settings_of(home).hub_endpoint, public=public,
        )  # fmt: skip
    say(f"{name}@{number} is {pushed}")


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
