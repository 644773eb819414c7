"""The columns of a comparison, their addresses, and their requests as commands and programs."""

import json
import shlex
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from server.console.pages.compare.columns import (
    Column,
    add_column,
    columns_of,
    parameters_of,
    read_parameters,
)
from server.console.pages.compare.prompts import prompt_of
from server.console.pages.compare.snippets import as_curl, as_python

HOSTILE = Column("""linear(a, 0.5*b; basis="x'$(rm)\\")""", "best")
MESSAGES = prompt_of("Say 'hi', \"you\" $HOME `id` \\ \n done").messages


def test_an_address_keeps_the_columns() -> None:
    """Columns and their titles are read back from the parameters that they write."""
    columns = add_column(columns_of(["base", "legal@prod"]), HOSTILE)
    assert columns == read_parameters(parameters_of(columns))
    assert () == read_parameters({})


def test_a_model_is_compared_once_and_six_at_most() -> None:
    """The same model, an empty one and a seventh column are left out."""
    assert 1 == len(columns_of(["a", " a ", "", "a"]))
    assert ["a", "b", "c", "d", "e", "f"] == [c.model for c in columns_of("abcdefgh")]


def test_the_command_is_the_request() -> None:
    """The shell gives curl the URL and the body as they are, and the key from the environment."""
    words = shlex.split(as_curl("http://localhost:8000", HOSTILE, MESSAGES, 64))
    assert "http://localhost:8000/v1/chat/completions" in words
    assert "authorization: Bearer $WEFT_KEY" in words
    assert HOSTILE.request(MESSAGES, 64) == json.loads(words[words.index("-d") + 1])


def test_the_program_makes_the_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program runs: it asks with the key of the environment, and prints what streams."""
    sent: dict[str, Any] = {}

    def create(**body: Any) -> list[Any]:
        sent.update(body)
        delta = SimpleNamespace(delta=SimpleNamespace(content="hi"))
        return [SimpleNamespace(choices=[delta]), SimpleNamespace(choices=[])]

    def client(**how: str) -> Any:
        sent["how"] = how
        return SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))

    openai = ModuleType("openai")
    vars(openai)["OpenAI"] = client
    monkeypatch.setitem(sys.modules, "openai", openai)
    monkeypatch.setenv("WEFT_KEY", "secret")
    program = as_python("http://localhost:8000", HOSTILE, MESSAGES, 64)
    exec(compile(program, "program", "exec"), {})  # noqa: S102 - it is the program of this test
    assert {"base_url": "http://localhost:8000/v1", "api_key": "secret"} == sent.pop("how")
    assert HOSTILE.request(MESSAGES, 64) == sent
    assert "hi" == capsys.readouterr().out
    assert "secret" not in program
