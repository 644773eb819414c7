"""Foreign clients against one engine: each in an environment of its own, at the version of the
table in REFERENCE.md. Every client asks for a merge, without retries.
"""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engine.clients import scripts
from tests.engine.clients.environments import CLIENTS, client, node_folder, python_of
from tests.engine.gateway import DEMO, Weft

pytestmark = pytest.mark.slow
KEY, MODEL = "sesame", "lego(zorp, blim; rank=16)"
ASK = [{"role": "user", "content": "copy sun moon"}]
_SECONDS = 300
# client -> its script
SCRIPTS = {
    "langchain-openai": scripts.LANGCHAIN, "litellm": scripts.LITELLM,
    "llama-index-llms-openai-like": scripts.LLAMA_INDEX, "huggingface_hub": scripts.HUGGINGFACE_HUB,
}  # fmt: skip


@pytest.fixture(scope="module")
def expected(weft: Weft) -> dict[str, Any]:
    """What a plain request for the merge answers."""
    body = {"model": MODEL, "messages": ASK, "temperature": 0, "max_tokens": 16}
    headers = {"authorization": f"Bearer {KEY}"}
    answer = httpx.post(
        f"{weft.url}/v1/chat/completions", json=body, headers=headers, trust_env=False, timeout=60
    )
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def environment(weft: Weft) -> dict[str, str]:
    """Return an environment for a client, without anything of this one's own."""
    return {
        "URL": weft.url, "KEY": KEY, "MODEL": MODEL, "HOME": str(weft.settings.home),
        "PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True", "DO_NOT_TRACK": "1", "OPENAI_API_KEY": KEY,
    }  # fmt: skip


def printed(weft: Weft, *command: str | Path, cwd: Path | None = None) -> dict[str, Any]:
    """Run a client and return the JSON object in the last line that it prints."""
    done = subprocess.run(
        [str(part) for part in command], env=environment(weft), cwd=cwd, capture_output=True,
        text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    document: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return document


def test_every_client_of_the_table_is_tried() -> None:
    """Each foreign client has a test here, and the table names no other."""
    elsewhere = {"openai", "openai (node)", "instructor", "vllm", "lm-eval", "curl"}
    assert {client.name for client in CLIENTS} == elsewhere | set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_client_gets_the_answer_of_the_merge(
    weft: Weft, expected: dict[str, Any], name: str
) -> None:
    """Whole and streamed, it has the text, the digest and the tokens of a plain request."""
    answer = printed(weft, python_of(name), "-c", SCRIPTS[name])
    text = expected["choices"][0]["message"]["content"]
    assert (text, text) == (answer["text"], answer["streamed"])
    assert expected["model"] == answer.get("model", expected["model"])
    tokens = expected["usage"]["completion_tokens"]
    assert tokens == answer.get("tokens", tokens)
    if "tool" in answer:
        assert ("mark", ["zorp"]) == (answer["tool"], answer["arguments"])


def test_instructor_gets_a_pydantic_model(weft: Weft) -> None:
    """A response model becomes a tool whose arguments are of its fields."""
    answer = printed(weft, python_of("instructor"), "-c", scripts.INSTRUCTOR)
    assert isinstance(answer["zorp"], bool)


def test_openai_node(weft: Weft, expected: dict[str, Any], tmp_path: Path) -> None:
    """openai-node chats, streams with usage, and lists the models."""
    script = node_folder() / "client.mjs"
    script.write_text(scripts.NODE)
    answer = printed(weft, "node", script)
    text = expected["choices"][0]["message"]["content"]
    assert (text, text) == (answer["text"], answer["streamed"])
    assert expected["model"] == answer["model"]
    assert expected["usage"]["completion_tokens"] == answer["tokens"]
    assert "zorp@prod" in answer["models"]


def test_curl_sees_a_stream_as_it_is_made(weft: Weft) -> None:
    """With -N the first event is there long before the last."""
    body = {
        "model": MODEL, "messages": ASK, "stream": True, "max_tokens": 300, "ignore_eos": True,
    }  # fmt: skip
    command = [
        "curl", "-sN", f"{weft.url}/v1/chat/completions", "-H", f"Authorization: Bearer {KEY}",
        "-H", "Content-Type: application/json", "-d", json.dumps(body),
    ]  # fmt: skip
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        assert curl.stdout.readline().startswith(b"data: {")
        first = time.monotonic() - started
        rest = curl.stdout.read()
    assert rest.endswith(b"data: [DONE]\n\n")
    assert first < (time.monotonic() - started) / 2


def test_vllm_s_bench_client_asks_for_merges(weft: Weft, tmp_path: Path) -> None:
    """`vllm bench serve` sends expressions as models, and every request of it is answered."""
    result = tmp_path / "bench.json"
    command = [
        python_of("vllm"), "-c", scripts.VLLM_BENCH, "--backend", "openai-chat",
        "--base-url", weft.url, "--endpoint", "/v1/chat/completions", "--model",
        weft.settings.served_base, "--tokenizer", weft.settings.model, "--lora-modules", MODEL,
        "cat(zorp, krun)", "--dataset-name", "random", "--random-input-len", "20",
        "--random-output-len", "8", "--num-prompts", "6", "--save-result", "--result-filename",
        result,
    ]  # fmt: skip
    done = subprocess.run(
        [str(part) for part in command], env=environment(weft), capture_output=True, text=True,
        timeout=_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert 6 == json.loads(result.read_text())["completed"]


@pytest.mark.parametrize("kind", ["local-completions", "local-chat-completions"])
def test_lm_eval_scores_an_adapter(weft: Weft, tmp_path: Path, kind: str) -> None:
    """lm-eval asks questions of zorp's skill and scores them right."""
    questions = json.loads((DEMO / "questions.json").read_text())["adapters"]["zorp"]["questions"]
    lines = "\n".join(json.dumps(question) for question in questions[:3])
    (tmp_path / "questions.jsonl").write_text(lines)
    (tmp_path / "zorp.yaml").write_text(scripts.LM_EVAL_TASK.replace("FOLDER", str(tmp_path)))
    chat = kind == "local-chat-completions"
    path = "chat/completions" if chat else "completions"
    command = [
        python_of("lm-eval"), "-m", "lm_eval", "run", "--model", kind, "--model_args",
        f"model=zorp,base_url={weft.url}/v1/{path},num_concurrent=1,max_retries=1,"
        "tokenizer_backend=none,tokenized_requests=False",
        "--tasks", "zorp", "--include_path", tmp_path, "--output_path", tmp_path / "out.json",
        *(["--apply_chat_template"] if chat else []),
    ]  # fmt: skip
    done = subprocess.run(
        [str(part) for part in command], env=environment(weft), capture_output=True, text=True,
        timeout=_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    (result,) = tmp_path.rglob("out*.json")
    scores = json.loads(result.read_text())["results"]["zorp"]
    score = next(value for name, value in scores.items() if name.startswith("exact_match,"))
    assert score == (1.0 if chat else score)


def test_the_environments_have_the_versions_of_the_table() -> None:
    """A foreign client that is not pinned would be another one tomorrow."""
    assert all(client(item.name).version for item in CLIENTS if item.name != "curl")
