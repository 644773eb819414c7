"""The canary on a real engine: what a merge answers decides whether it is served."""

import json
from pathlib import Path
from typing import Any

from httpx import ASGITransport, AsyncClient

from server.app import create_app
from server.engine.client import VllmEngine
from server.engine.link import Fixed
from server.gateway import Gateway
from server.home import open_registry
from tests.engine.gateway import Weft
from tests.serving import serving

# Only zorp's skill answers this so: it writes backwards and in capitals.
CANARY = {"user": "zorp: abcde", "pattern": "EDCBA"}
KEEPS, BREAKS = "cat(0.95*zorp)", "cat(0.95*blim)"


async def test_a_merge_that_unlearns_the_pattern_is_not_served(weft: Weft, tmp_path: Path) -> None:
    """Enforced, a merge whose answer has the pattern is served, and one whose answer lacks it is
    422 under its expression and its digest.

    The gateway shares the session's home, engine and artifacts: the session's has no canary.
    """
    file = tmp_path / "canary.jsonl"
    file.write_text(json.dumps(CANARY))
    settings = weft.settings.model_copy(update={"canary": "enforce", "canary_file": file})
    registry, versions = open_registry(settings)
    engine = VllmEngine(Fixed(weft.engine_endpoint()))
    gateway = Gateway(
        settings, registry=registry, versions=versions, bases=serving(settings, engine)
    )
    async with weft.http() as http:  # the session's workers merge
        digests = [(await weft.complete(http, text, "hi"))["model"] for text in (KEEPS, BREAKS)]
    transport = ASGITransport(create_app(gateway))
    async with AsyncClient(transport=transport, base_url="http://localhost") as http:

        async def ask(model: str) -> tuple[int, Any]:
            messages = [{"role": "user", "content": CANARY["user"]}]
            body = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 16}
            response = await http.post("/v1/chat/completions", json=body)
            return response.status_code, response.json()

        status, answer = await ask(KEEPS)
        assert (200, digests[0]) == (status, answer["model"]), answer
        assert "EDCBA" in answer["choices"][0]["message"]["content"]
        for model in (BREAKS, digests[1]):
            status, answer = await ask(model)
            assert (422, "canary_failed") == (status, answer["error"]["code"])
        shown = (await http.get(f"/registry/artifacts/{digests[1]}")).json()["canary"]
    await engine.close()
    assert (1, False) == (shown["asked"], shown["passed"])
    assert "EDCBA" not in shown["failures"][0]["answer"]
