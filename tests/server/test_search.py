"""Search over HTTP and on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient
from typer.testing import CliRunner, Result

from registry.service import Registry
from server.cli import app
from tests.server.conftest import BASE, DEMO

PATH = "/registry/search"
WORDS = "write the letters backwards with a dash between them"


class Weft:
    """Runs commands in the test's home."""

    def __call__(self, *words: object) -> Result:
        """Return how a command ended."""
        return CliRunner().invoke(app, [str(word) for word in words])

    def found(self, *words: object) -> list[dict[str, Any]]:
        """Return the hits of `weft search --json`."""
        result = self("search", *words, "--json")
        assert result.exit_code == 0, result.output
        hits: list[dict[str, Any]] = json.loads(result.stdout)
        return hits


@pytest.fixture
def weft(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weft:
    """Commands whose WEFT_* variables name the test's home and the demo base."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEFT_HOME", str(home))
    monkeypatch.setenv("WEFT_MODEL", str(DEMO / "base"))
    monkeypatch.setenv("WEFT_SERVED_BASE", BASE)
    return Weft()


async def test_the_route_finds_by_words(client: AsyncClient, registry: Registry) -> None:
    """Hits are best first, each with its score and its reasons."""
    response = await client.get(PATH, params={"text": WORDS, "limit": 3})
    body = response.json()
    hits = registry.search.finder.search(WORDS, limit=3)
    assert registry.search.finder.revision() == body["revision"]
    assert [hit.reference for hit in hits] == [hit["reference"] for hit in body["hits"]]
    assert hits[0].score == pytest.approx(body["hits"][0]["score"])
    assert {"question": "text", "kind": "text", "encoder": "hashing-1"}.items() <= (
        body["hits"][0]["why"][0].items()
    )


async def test_the_route_takes_every_question(client: AsyncClient) -> None:
    """One request combines words, likeness, several examples and a filter."""
    params = {
        "text": WORDS, "like": "zorp@prod", "by": "weights", "example": ["blim: a", "blim: b"],
        "filter": "rank<=16 name!=frob", "limit": "50",
    }  # fmt: skip
    hits = (await client.get(PATH, params=params)).json()["hits"]
    found = {hit["reference"].partition("@")[0] for hit in hits}
    assert {"zorp", "frob"} & found == set()
    assert {"text", "examples", "like"} == {why["question"] for why in hits[0]["why"]}


@pytest.mark.parametrize(
    ("params", "status", "word"),
    [
        ({"filter": "rank~3"}, 400, "one of"),
        ({"filter": "base=gpt-17"}, 404, "gpt-17"),
        ({"like": "nobody"}, 404, "nobody"),
        ({"like": "Not A Name"}, 400, "The reference is malformed"),
        ({"like": "zorp", "by": "behaviour"}, 409, "behaviour"),
    ],
)
async def test_mistakes_are_told(
    client: AsyncClient, params: dict[str, str], status: int, word: str
) -> None:
    """An invalid search has a status and a message."""
    response = await client.get(PATH, params=params)
    assert status == response.status_code
    assert word in response.text


@pytest.mark.parametrize(
    "params",
    [{"limit": "0"}, {"limit": "1000"}, {"by": "smell"}, {"filter": "x" * 1001},
     {"text": "x" * 8001}, {"example": ["x"] * 33}, {"example": "x" * 1001}],
)  # fmt: skip
async def test_what_is_out_of_range_is_a_bad_request(
    client: AsyncClient, params: dict[str, Any]
) -> None:
    """Limits are checked before the search."""
    assert (await client.get(PATH, params=params)).status_code in (400, 422)


def test_search_prints_a_table(weft: Weft) -> None:
    """The table has one line per adapter, with score and reasons."""
    result = weft("search", WORDS, "--limit", 2)
    assert result.exit_code == 0, result.output
    assert {"adapter", "score", "why", "text"} <= set(result.stdout.split())


def test_search_finds_by_examples_and_likeness(weft: Weft, tmp_path: Path) -> None:
    """Examples from lines and from JSON lines give the same hits."""
    (tmp_path / "lines.txt").write_text("blim: apple\n\nblim: pear\n")
    said = [{"role": "system", "content": "s"}, {"role": "user", "content": "blim: pear"}]
    documents = [{"prompt": "blim: apple"}, {"messages": said}]
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, documents)))
    first = weft.found("--for", tmp_path / "lines.txt")
    assert "blim@1" == first[0]["reference"]
    assert first == weft.found("--for", tmp_path / "lines.jsonl")
    assert 7 == len(weft.found("--like", "zorp"))


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.txt", ""), ("a.txt", b"\xff\xfe"), ("a.jsonl", "{"), ("a.jsonl", '{"answer": "x"}'),
     ("a.jsonl", "[" * 100_000), ("a.jsonl", '{"messages": [{"role": "user"}]}'), ("a.jsonl", "3")],
)  # fmt: skip
def test_a_file_without_examples_is_told(
    weft: Weft, tmp_path: Path, name: str, content: str | bytes
) -> None:
    """A file without examples is one sentence and exit code 1."""
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    result = weft("search", "--for", tmp_path / name)
    assert isinstance(result.exception, SystemExit)
    assert (1, True) == (result.exit_code, result.stderr.startswith("error: "))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--filter", "rank~3"), "position 4"),
        (("--like", "nobody"), "nobody"),
        (("--for", "missing.txt"), "missing.txt"),
    ],
)
def test_search_fails_in_one_sentence(weft: Weft, words: tuple[str, ...], said: str) -> None:
    """A mistake is one sentence without a traceback."""
    result = weft("search", *words)
    assert isinstance(result.exception, SystemExit)
    assert said in result.stderr


def test_tags_and_examples_are_given_by_command(weft: Weft, tmp_path: Path) -> None:
    """Tags and examples of a command affect the next search."""
    result = weft("adapters", "tag", "zorp", "law", "eu", "--remove", "eu")
    assert "zorp: eu law" in result.stdout
    assert ["zorp@1"] == [hit["reference"] for hit in weft.found("--filter", "tag=law")]
    result = weft("adapters", "tag", "zorp", "--remove", "law", "--remove", "eu")
    assert "zorp: no tags" in result.stdout
    (tmp_path / "examples.txt").write_text("Who wins in court?\n")
    assert 0 == weft("adapters", "examples", "tref", tmp_path / "examples.txt").exit_code
    assert "tref@1" == weft.found("who wins in court")[0]["reference"]


def test_missing_embeddings_are_made_by_command(weft: Weft) -> None:
    """After an import no embedding is missing."""
    result = weft("db", "embed")
    assert "0 embeddings computed" in result.stdout
