"""Routes that FastAPI examines once per process instead of once per app.

Each test makes an app for its own gateway, and examining the 80 routes took a quarter of a second:
most of what the test cost. Only what the endpoints close over differs from app to app, so that a
route whose endpoint has the code, annotations and defaults of an earlier one takes over what was
found out about that one.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import CodeType, FunctionType
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.params import Depends
from fastapi.routing import APIRoute, request_response

_examine = APIRoute.__init__
_OF_THE_APP = "dependency_overrides_provider"


@dataclass(frozen=True, slots=True)
class _Declared:
    """What a route is declared with, apart from what its functions close over."""

    annotations: dict[str, Any]
    defaults: list[Any]
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Examined:
    declared: _Declared
    attributes: dict[str, Any]


_examined: dict[tuple[type, str, CodeType], _Examined] = {}


def remember(route: APIRoute, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
    """Do what `APIRoute.__init__` does, in less time if such a route was made before."""
    function = inspect.unwrap(endpoint)
    assert isinstance(function, FunctionType)
    dependencies = _functions_depended_on(function)
    declared = _Declared(
        function.__annotations__,
        [_code_of(default) for default in _defaults(function)],
        {name: value for name, value in options.items() if name != _OF_THE_APP},
    )
    key = type(route), path, function.__code__
    earlier = _examined.get(key)
    if earlier is None or earlier.declared != declared:
        _examine(route, path, endpoint, **options)
        _examined[key] = _Examined(declared, vars(route).copy())
        return
    vars(route).update(earlier.attributes)
    route.endpoint = endpoint
    route.dependency_overrides_provider = options.get(_OF_THE_APP)
    route.dependant = replace(_with_calls(route.dependant, dependencies), call=endpoint)
    route.app = request_response(route.get_route_handler())


def _defaults(function: FunctionType) -> list[Any]:
    return [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]


def _code_of(default: Any) -> Any:
    """Return the code of a default's function, or the default itself if it is not one."""
    call = default.dependency if isinstance(default, Depends) else None
    return call.__code__ if isinstance(call, FunctionType) else default


def _functions_depended_on(function: FunctionType) -> dict[CodeType, FunctionType]:
    """Return the functions that a function's defaults depend on, by their code."""
    calls = [value.dependency for value in _defaults(function) if isinstance(value, Depends)]
    return {call.__code__: call for call in calls if isinstance(call, FunctionType)}


def _with_calls(dependant: Dependant, calls: dict[CodeType, FunctionType]) -> Dependant:
    """Return a copy in which functions of the same code as one of `calls` are replaced by it."""
    code = getattr(dependant.call, "__code__", None)
    below = [_with_calls(one, calls) for one in dependant.dependencies]
    call = calls.get(code, dependant.call) if code is not None else dependant.call
    return replace(dependant, call=call, dependencies=below)
