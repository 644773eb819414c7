"""`weft demo`: imports the demo adapters, serves them and prints a table of their answers.

The skills of a real small model where a checkout has them (`demo_skills.py`); otherwise, or if
asked to, the tests' tiny base, which speaks a made-up language.
"""

import asyncio
import json
import shlex
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from registry.sources.folder import find_adapters
from server.base_model import ensure_base
from server.cli.console import console, errors, print_table, say
from server.cli.demo_base import demo_base
from server.cli.demo_console import console_beside
from server.cli.demo_skills import (
    Reply,
    have_skills,
    present_skills,
    read_tasks,
    register_skills,
    skills_settings,
)
from server.engine.process import Progress
from server.home import open_registry
from server.serve import serve
from server.server_timing import parse_server_timing
from server.settings import Settings

BASE_NAME = "weft/demo-llama"
COMPOSITIONS = ("lego(zorp, blim; rank=16)", "cat(zorp, blim)")
_ASSETS = Path(__file__).parents[2] / "deploy" / "demo"
_STAGES = ("resolve", "merge", "load", "engine")


class DemoAssetsMissing(OSError):
    """The demo's files are missing; only a checkout of the project has them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question and the milliseconds that it took."""

    model: str
    prompt: str
    expected: str
    text: str
    stages: Mapping[str, float]  # milliseconds, measured by the server
    first_token: float  # milliseconds, measured by the client


async def run_demo(
    *,
    once: bool,
    tiny: bool,
    port: int,
    home: Path | None,
    started: Callable[[], None],
    progress: Progress,
) -> None:
    """Import and serve the demo adapters, print their answers, and keep serving unless `once`.

    Raises:
        DemoAssetsMissing: weft does not run in a checkout.
        DemoBaseUnavailable: the base of the skills cannot be fetched.
        EngineStartFailed: the engine did not start.
    """
    if not (_ASSETS / "base").is_dir():
        raise DemoAssetsMissing(f"{_ASSETS} is missing: run the demo in a checkout of weft")
    with tempfile.TemporaryDirectory(prefix="weft-demo-") as temporary:
        folder = home or Path(temporary)
        if tiny or not have_skills():
            settings, present = demo_settings(folder, port), _present
            imported = await asyncio.to_thread(import_demo_adapters, settings)
        else:
            base = await asyncio.to_thread(demo_base, report=errors.print)
            settings, present = skills_settings(folder, port, base), _present_skills
            imported = await asyncio.to_thread(import_skills, settings)
        errors.print(f"{imported} adapters imported", highlight=False)
        presented: list[asyncio.Task[None]] = []
        with ExitStack() as beside:
            console_address = (
                None if once else beside.enter_context(console_beside(_address(settings)))
            )

            async def ready(stop: Callable[[], None]) -> None:
                started()
                presented.append(asyncio.create_task(show(stop)))

            async def show(stop: Callable[[], None]) -> None:
                await present(settings, stop if once else None)
                if console_address is not None:
                    say(await asyncio.to_thread(console_address))

            await serve(settings, ready=ready, progress=progress)
            await asyncio.gather(*presented)


def demo_settings(home: Path, port: int) -> Settings:
    """Return settings that serve the demo base on any machine, in float32 so that the answers of
    merges are exact to the last token."""
    return Settings(
        home=home, port=port, model=str(_ASSETS / "base"), served_base=BASE_NAME, dtype="float32",
        max_loras=4, max_cpu_loras=16, max_lora_rank=64, max_model_len=512,
    )  # fmt: skip


def import_demo_adapters(settings: Settings) -> int:
    """Register every demo adapter under its folder's name, as `name@prod`."""
    registry, _ = open_registry(settings)
    base = ensure_base(registry, settings)
    folders = find_adapters(_ASSETS / "adapters")
    for folder in folders:
        registry.adapters.register(
            folder, name=folder.name, base=base.name, alias="prod", source="demo", actor="demo"
        )
    return len(folders)


def import_skills(settings: Settings) -> int:
    """Register every skill's adapter under its name, as `name@prod`."""
    registry, _ = open_registry(settings)
    ensure_base(registry, settings)
    return register_skills(registry, read_tasks())


async def ask(client: AsyncOpenAI, model: str, prompt: str, max_tokens: int = 32) -> Reply:
    """Return the streamed answer, the server's stages and the time to the first token."""
    started = time.perf_counter()
    first = None
    text = ""
    async with client.chat.completions.with_streaming_response.create(
        model=model, messages=[{"role": "user", "content": prompt}], temperature=0,
        max_tokens=max_tokens,
        stream=True,
    ) as response:  # fmt: skip
        stages = parse_server_timing(response.headers.get("server-timing", ""))
        chosen = response.headers.get("x-weft-ingredients", "")
        async for chunk in await response.parse():
            delta = chunk.choices[0].delta.content if chunk.choices else None
            if delta:
                first = first or time.perf_counter()
                text += delta
    return Reply(text, chosen, stages, 1000 * ((first or time.perf_counter()) - started))


async def _present(settings: Settings, stop: Callable[[], None] | None) -> None:
    """Ask all questions twice and print the tables; then stop the server or print how to use it."""
    try:
        async with _client(settings) as client:
            questions = json.loads((_ASSETS / "questions.json").read_text())["adapters"]
            for title in ("first time (cold)", "second time (warm)"):
                _print(title, [answer async for answer in _answers(client, questions)])
    finally:
        if stop is not None:
            stop()
    if stop is None:
        _print_use(settings, COMPOSITIONS[0], "zorp: banana")


async def _present_skills(settings: Settings, stop: Callable[[], None] | None) -> None:
    """Print what skills and merges answer; then stop the server or print how to use it."""
    tasks = read_tasks()
    try:
        async with _client(settings) as client:
            await present_skills(partial(ask, client), tasks)
    finally:
        if stop is not None:
            stop()
    if stop is None:
        _print_use(settings, tasks[-1].model, tasks[-1].questions[0][0])


def _print_use(settings: Settings, model: str, prompt: str) -> None:
    server = _address(settings)
    url = f"{server}/v1"
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": prompt}]})
    console.print(
        f"serving on {url}; try:\n\n"
        f"  curl -s {url}/chat/completions -H 'content-type: application/json' \\\n"
        f"    -d {shlex.quote(body)}\n"
        f"  weft explain '{model}' --server {server}\n\nstop with Ctrl-C",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


async def _answers(
    client: AsyncOpenAI, questions: Mapping[str, Mapping[str, list[dict[str, str]]]]
) -> AsyncIterator[Answer]:
    asked = [(name, name) for name in questions]
    # A composition is asked a question of each of its two skills.
    asked += [(model, skill) for model in COMPOSITIONS for skill in ("zorp", "blim")]
    for model, skill in asked:
        question = questions[skill]["questions"][0]
        reply = await ask(client, model, question["prompt"])
        yield Answer(
            model, question["prompt"], question["answer"], reply.text, reply.stages,
            reply.first_token,
        )  # fmt: skip


def _print(title: str, answers: list[Answer]) -> None:
    rows = [
        (a.model, a.prompt, a.text, "yes" if a.text == a.expected else f"no: {a.expected}",
         *(f"{a.stages.get(stage, 0):.1f}" for stage in _STAGES), f"{a.first_token:.1f}")
        for a in answers
    ]  # fmt: skip
    columns = (
        "model",
        "prompt",
        "answer",
        "right",
        *(f"{s} ms" for s in _STAGES),
        "first token ms",
    )
    print_table(title, columns, rows)


def _address(settings: Settings) -> str:
    return f"http://{settings.host}:{settings.port}"


@asynccontextmanager
async def _client(settings: Settings) -> AsyncIterator[AsyncOpenAI]:
    async with DefaultAsyncHttpxClient(trust_env=False, timeout=120) as http:
        url = f"{_address(settings)}/v1"
        yield AsyncOpenAI(base_url=url, api_key="none", http_client=http, max_retries=0)
