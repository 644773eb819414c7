"""A request as a command for curl and as Python for OpenAI's client.

The key is not in it: both read it from the environment variable WEFT_KEY.
"""

import json
import shlex
from collections.abc import Sequence
from pprint import pformat

from server.console.pages.compare.columns import Column
from server.console.pages.compare.prompts import Message


def as_curl(server: str, column: Column, messages: Sequence[Message], max_tokens: int) -> str:
    """Return the command that asks a column's model on a server."""
    body = json.dumps(column.request(messages, max_tokens), ensure_ascii=False)
    return (
        f"curl -sN {shlex.quote(f'{server}/v1/chat/completions')} \\\n"
        '  -H "authorization: Bearer $WEFT_KEY" -H "content-type: application/json" \\\n'
        f"  -d {shlex.quote(body)}\n"
    )


def as_python(server: str, column: Column, messages: Sequence[Message], max_tokens: int) -> str:
    """Return the program that asks a column's model on a server."""
    arguments = column.request(messages, max_tokens)
    lines = [f"    {name}={_literal(value)}," for name, value in arguments.items()]
    return "\n".join([
        "import os", "", "from openai import OpenAI", "",
        f'client = OpenAI(base_url={f"{server}/v1"!r}, api_key=os.environ["WEFT_KEY"])',
        "stream = client.chat.completions.create(", *lines, ")",
        "for part in stream:",
        "    if part.choices:",
        '        print(part.choices[0].delta.content or "", end="", flush=True)', "",
    ])  # fmt: skip


def _literal(value: object) -> str:
    return pformat(value, sort_dicts=False).replace("\n", "\n    ")
