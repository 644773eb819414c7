"""`GET …/files`: who may take an adapter's files, and what the archive has."""

import io
import tarfile
from pathlib import Path

import pytest
from httpx import AsyncClient

from registry.service import Registry
from registry.sources.upload import import_tar
from server.gateway import Gateway
from tests.server.admin.conftest import ClientOf, problem
from tests.server.test_api import ask

ZORP = "/registry/adapters/zorp/-/versions/1/files"


def files_of(archive: bytes) -> dict[str, bytes]:
    """Return the files of a tar by name, as Python's own reader sees them."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]  # files only


async def test_an_export_is_a_tar_of_the_stored_files(admin: AsyncClient, gateway: Gateway) -> None:
    """The archive has config and weights as they are stored, and a card; its length and digest are
    in the headers."""
    answer = await admin.get(ZORP)
    files, digest = files_of(answer.content), answer.headers["x-weft-digest"]
    stored = gateway.versions.path(digest)

    assert int(answer.headers["content-length"]) == len(answer.content)
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} == set(files)
    assert all((stored / name).read_bytes() == files[name] for name in files if name != "README.md")


async def test_files_are_for_those_who_may_publish_and_see_the_adapter(
    client_of: ClientOf, private: str, registry: Registry
) -> None:
    """Keys that only read or chat get no files, and an adapter that a key does not see is unknown
    to it; a public one is given away."""
    path = f"/registry/adapters/{private}/-/versions/1/files"
    for role in ("read", "chat"):
        problem(await (await client_of(role, "other")).get(path), 403, "access_denied")
    team, other = await client_of("publish", "team"), await client_of("publish", "other")
    problem(await team.get(path), 404, "model_not_found")
    assert (await other.get(path)).status_code == 200

    registry.versions.set_visibility(private, "public", "me")
    assert (await team.get(path)).status_code == 200


async def test_what_is_out_of_use_is_not_exported(admin: AsyncClient, shared_workers: None) -> None:
    """A quarantine reaches the files of an adapter and of what was merged from it."""
    merged = (await ask(admin, "cat(zorp, blim)")).json()["model"]
    assert (await admin.get(f"/registry/artifacts/{merged}/files")).status_code == 200
    body = {"status": "quarantined", "reason": "harm"}
    await admin.put("/registry/adapters/zorp/-/versions/1/status", json=body)
    for path in (ZORP, f"/registry/artifacts/{merged}/files"):
        problem(await admin.get(path), 409, "version_quarantined")


async def test_a_merge_is_exported_with_its_recipe_though_its_files_are_gone(
    admin: AsyncClient, gateway: Gateway, registry: Registry, shared_workers: None
) -> None:
    """The card has the expression, which makes the same merge again, the licences of the
    ingredients and what was measured; files that were evicted are made again."""
    await admin.post(
        "/registry/compositions/mix/-/versions", json={"expression": "linear(0.7*zorp, blim)"}
    )
    registry.evaluations.record("mix", 1, dataset="court", metric="f1", value=0.5)
    merged = (await ask(admin, "mix")).json()["model"]
    gateway.artifacts.delete(merged)

    answer = await admin.get(f"/registry/artifacts/{merged[:12]}/files")
    card = files_of(answer.content)["README.md"].decode()
    expression = card.partition("```\n")[2].partition("\n```")[0]

    assert answer.headers["x-weft-digest"] == merged
    assert expression.startswith("linear(0.7*zorp@1, blim@1; ")
    assert (await ask(admin, expression)).json()["model"] == merged
    assert "`mix@1` | court | f1 | 0.5" in card
    made = import_tar(registry, [answer.content], name="again", limit_bytes=2**30)
    assert made.version.digest == merged


async def test_a_card_names_nothing_that_its_reader_does_not_see(
    client_of: ClientOf, registry: Registry, hidden_folder: Path
) -> None:
    """A public adapter whose content has a private name, too, is exported without that name."""
    registry.adapters.register(hidden_folder, name="shown")
    registry.adapters.register(hidden_folder, name="other/hidden")
    team = await client_of("publish", "team")
    answer = await team.get("/registry/adapters/shown/-/versions/1/files")
    assert "other/hidden" not in files_of(answer.content)["README.md"].decode()


async def test_a_missing_file_is_an_error_before_the_first_byte(
    admin: AsyncClient, gateway: Gateway
) -> None:
    """A version whose files are gone is a problem document, not half an archive."""
    digest = (await admin.get(ZORP)).headers["x-weft-digest"]
    (gateway.versions.path(digest) / "adapter_model.safetensors").unlink()
    problem(await admin.get(ZORP), 503, "storage_broken")


@pytest.mark.parametrize("number", [7, 0])
async def test_an_unknown_version_has_no_files(admin: AsyncClient, number: int) -> None:
    """A number that no version has is an error of the client."""
    answer = await admin.get(f"/registry/adapters/zorp/-/versions/{number}/files")
    assert answer.status_code in (404, 400, 422)
