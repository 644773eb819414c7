"""The clients that are tried, each at one version, and the environments of the foreign ones.

An environment is made in `build/clients/NAME` when a test first needs it, from the package
registries, and kept.
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
_MADE = ROOT / "build" / "clients"
_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Client:
    """A client; `requires` are its packages, none for what this environment has already.

    `tried` says what of it is tried.
    """

    name: str
    requires: tuple[str, ...]
    tried: str

    @property
    def version(self) -> str:
        """The version that is tried."""
        return pinned(self.requires[0] if self.requires else self.name)


CLIENTS: Sequence[Client] = (
    Client(
        "openai", (),
        "sync, async, streams with usage, tools, structured output, log-probabilities, n > 1, "
        "responses",
    ),
    Client("openai (node)", ("npm:openai@7.59.0",), "chats, streams with usage, models"),
    Client("langchain-openai", ("langchain-openai==1.7.4",), "ChatOpenAI: invoke, stream, tools"),
    Client("litellm", ("litellm==1.110.2",), "completion, streams"),
    Client(
        "llama-index-llms-openai-like", ("llama-index-llms-openai-like==0.8.1",),
        "OpenAILike: chat, stream_chat",
    ),
    Client("instructor", ("instructor==1.17.0",), "a Pydantic model as the answer, by a tool"),
    Client("huggingface_hub", (), "InferenceClient: chat, streams"),
    Client("vllm", (), "vllm bench serve with compositions as models"),
    Client("lm-eval", ("lm-eval[api]==0.4.13",), "local-completions, local-chat-completions"),
    Client("curl", (), "-N: a stream arrives as it is made"),
)  # fmt: skip


def client(name: str) -> Client:
    """Return the client of that name."""
    return next(client for client in CLIENTS if client.name == name)


def pinned(package: str) -> str:
    """Return the version in a requirement, or of a package in constraints-cpu.txt; "" if none."""
    named = re.search(r"(?:==|@)([0-9][0-9A-Za-z.]*)$", package)
    if named is not None:
        return named[1]
    lines = (ROOT / "constraints-cpu.txt").read_text().splitlines()
    versions = dict(line.split("==") for line in lines if "==" in line)
    return versions.get(package) or versions.get(f"{package}-cpu") or ""


def python_of(name: str) -> Path:
    """Return the interpreter that has a client; its environment is made if it is not there."""
    requires = client(name).requires
    if not requires:
        return Path(sys.executable)
    folder = _MADE / name
    marker = folder / "made.json"
    if not marker.is_file() or json.loads(marker.read_text()) != list(requires):
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(folder / "bin" / "pip"), "install", "--quiet", "--no-compile", *requires])
        marker.write_text(json.dumps(requires))
    return folder / "bin" / "python"


def node_folder() -> Path:
    """Return the folder whose node_modules have openai-node."""
    (package,) = client("openai (node)").requires
    folder = _MADE / "node"
    marker = folder / "made.json"
    if not marker.is_file() or json.loads(marker.read_text()) != package:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}')
        _run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder),
              package.removeprefix("npm:")])  # fmt: skip
        marker.write_text(json.dumps(package))
    return folder


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_SECONDS, check=False, cwd=ROOT
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
