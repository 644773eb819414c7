"""What a review of `server` found."""

import json
import shutil
from collections.abc import Callable

import pytest

from server.app import Gateway, create_app
from server.settings import Settings
from tests.server import test_launch, test_selftest
from tests.server.asgi import ask

DigestOf = Callable[[str], str]
artifacts, stub = test_selftest.artifacts, test_launch.stub


def test_an_empty_key_is_refused_however_it_is_given() -> None:
    """It would let in whoever sends no key at all."""
    with pytest.raises(ValueError, match="empty key"):
        Settings(api_keys=("",))
    with pytest.raises(ValueError, match="empty key"):
        Settings(api_keys=[" "])


async def test_a_deletion_by_hand_during_a_request_is_no_fault(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that vanish between the look and the touch are built again."""
    touch, vanished = gateway.artifacts.touch, list[str]()

    def touch_late(digest: str) -> bool:
        if not vanished:
            vanished.append(digest)
            shutil.rmtree(gateway.artifacts.path(digest))
        return touch(digest)

    monkeypatch.setattr(gateway.artifacts, "touch", touch_late)
    exchange = ask("cat(zorp, blim)")
    await exchange.run(create_app(gateway))
    assert exchange.status == 200, json.loads(exchange.body)


def test_the_caret_is_under_its_place_across_lines() -> None:
    """White space of any kind in the text does not move the caret."""
    from server.compose.expression import ExpressionInvalid, parse_model

    with pytest.raises(ExpressionInvalid) as caught:
        parse_model("cat(zorp,\n\tblim,\n ?)")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "\t" not in lines[1]
    assert lines[1].index("?") == lines[2].index("^")
