"""The routes that the tests share are those that a server makes."""

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from server.app import create_app
from server.gateway import Gateway
from tests.server import remembered_routes
from tests.server.conftest import MakeGateway


def calls(dependant: Dependant) -> list[object]:
    """Return the functions that a route calls."""
    return [dependant.call, *(call for one in dependant.dependencies for call in calls(one))]


def routes(gateway: Gateway) -> list[APIRoute]:
    """Return the routes of a new app."""
    return [route for route in create_app(gateway).routes if isinstance(route, APIRoute)]


def names(route: APIRoute) -> list[object]:
    """Return the names of all that a route calls."""
    return [getattr(call, "__qualname__", call) for call in calls(route.dependant)]


def test_remembered_routes_are_the_examined_ones(
    make_gateway: MakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A remembered route has the attributes and calls of an examined one, and takes from another
    app no function that closes over its gateway."""
    first, second = routes(make_gateway()), routes(make_gateway())
    monkeypatch.setattr(APIRoute, "__init__", remembered_routes._examine)
    examined = routes(make_gateway())

    assert len(second) == len(examined) > 50
    for before, route, new in zip(first, second, examined, strict=True):
        assert vars(new).keys() == vars(route).keys()
        assert (new.path, new.methods, new.name) == (route.path, route.methods, route.name)
        assert names(new) == names(route)
        assert (new.response_field is None) == (route.response_field is None)
        shared = {*map(id, calls(before.dependant))} & {*map(id, calls(route.dependant))}
        assert not [
            call for call in calls(route.dependant)
            if id(call) in shared and getattr(call, "__closure__", None)
        ]  # fmt: skip
