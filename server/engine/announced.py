"""What an engine that is started elsewhere says of itself, and whether it fits a gateway's base."""

import json
import logging
from dataclasses import dataclass

import aiohttp

from server.engine.link import Endpoint
from server.settings import Settings

_PATH = "/weft/engine"
_log = logging.getLogger("weft.engine")


class EngineUnfit(Exception):
    """An engine is set up in a way that this gateway cannot use; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """How an engine was started.

    Attributes:
        names: of its base, in requests.
        max_lora_rank: the largest rank that it loads; 0: it loads no adapters.
        max_loras: adapters that it runs in one step.
        dtype: of its weights, such as `bfloat16`.
    """

    names: frozenset[str]
    max_lora_rank: int
    max_loras: int
    dtype: str


async def announced(endpoint: Endpoint, seconds: float) -> Announcement | None:
    """Return what an engine announces; None if its plug-in is older and announces nothing.

    Raises:
        EngineUnfit: its answer is none of weft's plug-in.
        aiohttp.ClientError, TimeoutError: it does not answer within `seconds`.
    """
    timeout = aiohttp.ClientTimeout(total=seconds)
    async with (
        aiohttp.ClientSession(timeout=timeout) as http,
        http.get(endpoint.url + _PATH, headers=endpoint.headers) as response,
    ):
        status, answer = response.status, await response.read()
    if status == 404:
        return None
    try:
        body = json.loads(answer)
        return Announcement(
            frozenset(map(str, body["models"])), int(body["max_lora_rank"]),
            int(body["max_loras"]), str(body["dtype"]),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        shown = f"{status}: {answer[:200].decode(errors='replace')!r}"
        raise EngineUnfit(f"{endpoint.url}{_PATH} answers {shown}") from error


def check_fit(announcement: Announcement, settings: Settings, url: str) -> None:
    """Check that an engine does what the settings of its base promise; warn of what differs.

    Raises:
        EngineUnfit: it loads no adapters, or not those of every rank that the gateway admits.
    """
    if announcement.max_lora_rank == 0:
        raise EngineUnfit(f"{url} loads no adapters: start it with --enable-lora")
    if announcement.max_lora_rank < settings.max_lora_rank:
        raise EngineUnfit(
            f"{url} loads adapters up to rank {announcement.max_lora_rank}, and this gateway "
            f"serves them up to {settings.max_lora_rank}: start it with --max-lora-rank "
            f"{settings.max_lora_rank}, or lower WEFT_MAX_LORA_RANK"
        )
    if announcement.max_loras < settings.max_loras:
        _log.warning(
            "%s runs %d adapters at once, and WEFT_MAX_LORAS is %d",
            url, announcement.max_loras, settings.max_loras,
        )  # fmt: skip
    if settings.dtype not in ("auto", announcement.dtype):
        _log.warning(
            "%s has weights in %s, and WEFT_DTYPE is %s", url, announcement.dtype, settings.dtype
        )
