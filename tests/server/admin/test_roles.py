"""Every route declares a role, and admits only that role and those above it."""

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from starlette.routing import BaseRoute, Route

from registry.callers import ROLES, Role
from server.app import create_app
from server.auth import OPEN_PATHS, role_of
from server.gateway import Gateway
from tests.server.admin.conftest import ClientOf

# What stands in a path where a route has a parameter: well formed, and nothing there.
PARAMETERS = {
    "{name:path}": "team/nothing", "{number}": "7", "{alias}": "live", "{digest}": "0" * 64,
    "{key:path}": "nobody", "{model:path}": "team/nothing", "{file}": f"file-{'0' * 24}",
    "{job}": f"ftjob-{'0' * 24}",
}  # fmt: skip


def routes(app: FastAPI) -> list[tuple[str, str, BaseRoute]]:
    """Return (method, a path that matches, route) of every route."""
    result: list[tuple[str, str, BaseRoute]] = []
    for route in app.routes:
        assert isinstance(route, Route)
        path = route.path
        for parameter, value in PARAMETERS.items():
            path = path.replace(parameter, value)
        assert "{" not in path, f"PARAMETERS lacks one of {route.path}"
        result += [(method, path, route) for method in sorted((route.methods or set()) - {"HEAD"})]
    return result


def test_every_route_declares_its_role(gateway: Gateway) -> None:
    """Every route except /health declares a role."""
    for _, path, route in routes(create_app(gateway)):
        assert (role_of(route) is None) == (path in OPEN_PATHS), path


def test_a_route_without_a_role_stops_the_start(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A route without a role is an error at start-up."""
    from server import app as assembly

    class Careless(FastAPI):
        def __init__(self, **kwargs: object) -> None:
            super().__init__(**kwargs)  # type: ignore[arg-type]  # they are FastAPI's own
            self.get("/new")(lambda: "open to all")

    monkeypatch.setattr(assembly, "FastAPI", Careless)
    with pytest.raises(AssertionError, match="/new"):
        create_app(gateway)


@pytest.mark.parametrize("namespace", [None, "team"])
@pytest.mark.parametrize("role", ROLES)
async def test_roles_open_what_they_should(
    gateway: Gateway, client_of: ClientOf, role: Role, namespace: str | None
) -> None:
    """A request is 403 exactly if the route's role is above the key's, or outside a namespace
    admin's rights.
    """
    client = await client_of(role, namespace)
    beyond = {("GET", "/registry/garbage"), ("POST", "/registry/garbage/collect"),
              ("POST", "/registry/bases"), ("DELETE", f"/registry/artifacts/{'0' * 64}"),
              ("PUT", "/registry/keys/nobody/-/limits"),
              ("GET", "/registry/policies"), ("POST", "/registry/policies"),
              ("DELETE", "/registry/policies/7"),
              ("PUT", "/registry/adapters/team/nothing/-/versions/7/status")}  # fmt: skip
    wrong = []
    for method, path, route in routes(create_app(gateway)):
        needed = role_of(route) or "read"
        allowed = ROLES.index(role) >= ROLES.index(needed)
        allowed = allowed and (namespace is None or (method, path) not in beyond)
        status = (await client.request(method, path, json={})).status_code
        if allowed != (status not in (401, 403)) or status >= 500:
            wrong.append((method, path, needed, status))
    assert [] == wrong


@pytest.mark.parametrize("key", [None, "weft_wrong", "\xff"])
async def test_nothing_opens_without_a_key(
    gateway: Gateway, client_of: ClientOf, key: str | None
) -> None:
    """Once a key exists, requests without one get 401 on every route except /health."""
    client: AsyncClient = await client_of("admin")
    client.headers.pop("authorization")
    headers = {} if key is None else {b"authorization": f"Bearer {key}".encode("latin-1")}
    for method, path, _ in routes(create_app(gateway)):
        response = await client.request(method, path, headers=headers)
        assert (path in OPEN_PATHS) == (response.status_code != 401), path


async def test_a_namespace_s_key_changes_nothing_elsewhere(
    gateway: Gateway, client_of: ClientOf, private: str
) -> None:
    """Every route that changes its path's record is 403 outside the key's namespace, whether the
    name exists or not.
    """
    client = await client_of("admin", "team")
    for route in create_app(gateway).routes:
        assert isinstance(route, Route)
        methods = (route.methods or set()) - {"GET", "HEAD", "POST"}
        for name in (private, "other/nothing", "zorp"):
            path = route.path.replace("{name:path}", name)
            for parameter, value in PARAMETERS.items():
                path = path.replace(parameter, value)
            for method in methods if "{name:path}" in route.path else ():
                response = await client.request(method, path, json={})
                assert response.status_code == 403, (method, path, response.text)
