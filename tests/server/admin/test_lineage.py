"""A quarantine over HTTP reaches the published merge, its digest, its artifact and its merges."""

from httpx import AsyncClient

from tests.server.test_api import ask, told


async def test_a_quarantine_reaches_all_that_was_made_of_an_adapter(
    admin: AsyncClient, shared_workers: None
) -> None:
    """With zorp@1 quarantined, a merge of it is refused as an expression, as a composition, as a
    published adapter, by its digest, and as an ingredient; the answer lists what it reaches, and a
    release brings everything back."""
    path = "/registry/compositions/mix/-/versions"
    await admin.post(path, json={"expression": "lego(zorp, blim)"})
    published = await admin.post(f"{path}/1/publish", json={"adapter": "mixed"})
    assert published.status_code == 201, published.text
    digest = published.json()["version"]["digest"]
    again = {"expression": "cat(mixed, dwen)"}
    await admin.post("/registry/compositions/again/-/versions", json=again)
    models = ("zorp", "lego(zorp, blim)", "mix", "mixed", digest, "cat(mixed, dwen)", "again")
    assert {200} == {(await ask(admin, model)).status_code for model in models}
    status = "/registry/adapters/zorp/-/versions/1/status"

    stop = await admin.put(status, json={"status": "quarantined", "reason": "harm"})
    reach = stop.json()
    assert (["zorp@1"], ["mixed@1"], ["again@1", "mix@1"]) == (
        reach["versions"], reach["merges"], reach["compositions"],
    )  # fmt: skip
    assert digest in reach["artifacts"]
    for model in models:
        answer = await ask(admin, model)
        assert (409, "version_quarantined") == (answer.status_code, told(answer)["code"]), model
    assert (await ask(admin, "blim")).status_code == 200

    assert reach == (await admin.put(status, json={"status": "admitted"})).json()
    assert {200} == {(await ask(admin, model)).status_code for model in models}


async def test_a_retirement_of_a_content_needs_a_reason_and_is_for_good(
    admin: AsyncClient,
) -> None:
    """Without a reason it is refused; with one, the version is gone and is not released."""
    status = "/registry/adapters/zorp/-/versions/1/status"
    assert 400 == (await admin.put(status, json={"status": "retired"})).status_code
    body = {"status": "retired", "reason": "licence revoked"}
    assert 200 == (await admin.put(status, json=body)).status_code
    answer = await ask(admin, "zorp@1")
    assert (410, "version_retired") == (answer.status_code, told(answer)["code"])
    assert 410 == (await admin.put(status, json={"status": "admitted"})).status_code
