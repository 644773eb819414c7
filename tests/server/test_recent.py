"""While the database cannot be reached, answers of the last 30 seconds are given again."""

import pytest

from registry.storage.errors import DatabaseUnavailable, DatabaseUnreachable
from server.recent import Recent


class World:
    """A database that answers with a value or an error, and a clock."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, 0
        self.answer: str | Exception = "old"

    def ask(self) -> str:
        """Answer, or raise."""
        self.calls += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def world() -> World:
    """A database that answers."""
    return World()


def test_an_answer_is_given_again_for_thirty_seconds(world: World) -> None:
    """With the database gone, the last answer stands; after 30 seconds the error is raised."""
    recent = Recent[str](clock=lambda: world.now)
    assert "old" == recent.ask("a", world.ask)
    world.answer = DatabaseUnreachable("gone")
    world.now = 30.0
    assert "old" == recent.ask("a", world.ask)
    with pytest.raises(DatabaseUnreachable):
        recent.ask("another", world.ask)
    world.now = 31.1
    with pytest.raises(DatabaseUnreachable):
        recent.ask("a", world.ask)


def test_a_database_that_is_back_is_asked(world: World) -> None:
    """While it is gone it is asked once a second; its new answer replaces the old one."""
    recent = Recent[str](clock=lambda: world.now)
    recent.ask("a", world.ask)
    world.answer = DatabaseUnreachable("gone")
    for _ in range(5):
        recent.ask("a", world.ask)
    assert 2 == world.calls
    world.answer, world.now = "new", 1.5
    assert "new" == recent.ask("a", world.ask)


def test_another_error_is_no_outage(world: World) -> None:
    """A busy database refuses: else a load would lengthen the life of revoked rights."""
    recent = Recent[str]()
    recent.ask("a", world.ask)
    world.answer = DatabaseUnavailable("every connection is taken")
    with pytest.raises(DatabaseUnavailable):
        recent.ask("a", world.ask)


def test_old_answers_make_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the last answers are remembered."""
    monkeypatch.setattr("server.recent._ENTRIES", 2)
    recent = Recent[str]()
    for key in "abc":
        recent.ask(key, world.ask)
    world.answer = DatabaseUnreachable("gone")
    assert "old" == recent.ask("c", world.ask)
    with pytest.raises(DatabaseUnreachable):
        recent.ask("a", world.ask)
