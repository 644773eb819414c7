"""What one tenant can learn of another's prompts through the engine's prefix cache."""

from pathlib import Path

from httpx import ASGITransport, AsyncClient

from server.app import create_app
from server.base_model import ensure_base
from server.engine.client import VllmEngine
from server.engine.link import Fixed
from server.gateway import Gateway
from server.home import open_registry
from tests.engine.gateway import BASE, Weft, serve_settings
from tests.serving import serving

PROMPT = [5 + i % 20 for i in range(400)]  # tokens; several of the cache's blocks


async def test_prompts_meet_in_the_cache_within_a_namespace_only(
    weft: Weft, tmp_path: Path
) -> None:
    """The same prompt has cached tokens for a key of the same namespace, and none for others.

    The gateway has keys of its own and asks the engine of the session's gateway, which has none.
    """
    settings = serve_settings(tmp_path / "home")
    registry, versions = open_registry(settings)
    ensure_base(registry, settings)
    scopes = {"team-a": "team", "team-b": "team", "other": "other", "public": None, "more": None}
    keys = {
        name: registry.access.keys.create(name, role="chat", namespace=namespace)[1]
        for name, namespace in scopes.items()
    }
    engine = VllmEngine(Fixed(weft.engine_endpoint()))
    gateway = Gateway(
        settings, registry=registry, versions=versions, bases=serving(settings, engine)
    )
    transport = ASGITransport(create_app(gateway))
    async with AsyncClient(transport=transport, base_url="http://localhost") as http:

        async def cached(name: str, **more: str) -> int:
            response = await http.post(
                "/v1/completions",
                json={"model": BASE, "prompt": PROMPT, "max_tokens": 1} | more,
                headers={"authorization": f"Bearer {keys[name]}"},
            )
            assert response.status_code == 200, response.text
            details = response.json()["usage"]["prompt_tokens_details"]
            return int((details or {}).get("cached_tokens") or 0)

        first = await cached("team-a")
        again = [await cached("team-a"), await cached("team-b")]
        others = [await cached(name, cache_salt="team") for name in ("other", "public", "more")]
    await engine.close()
    assert 0 == first
    assert all(tokens > 0 for tokens in again), again
    assert [0, 0, 0] == others
