"""What an engine costs while it has nothing to do, and connections that have."""

import asyncio
import time
from http.client import HTTPConnection

import psutil

from tests.engine.gateway import Weft, descendants

SETTLE_SECONDS, SECONDS = 5.0, 6.0
CLIENTS_KEEP_SECONDS = 5.0
SHARE = 0.3  # of a core; an engine that spins takes all of one, and with a neighbour half of one


def cpu_seconds(pids: list[int]) -> float:
    """Return the processor time that processes have used."""
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return float(sum(one.user + one.system for one in times))


async def test_an_idle_engine_leaves_the_cores_alone(weft: Weft) -> None:
    """Without requests the engine's processes take less than a third of a core, although the
    gateway looks at it every second."""
    await asyncio.sleep(SETTLE_SECONDS)
    pids = [weft.engine_pid(), *descendants(weft.engine_pid())]
    before = cpu_seconds(pids)
    await asyncio.sleep(SECONDS)
    assert cpu_seconds(pids) - before < SHARE * SECONDS


def test_a_connection_waits_longer_than_clients_keep_it(weft: Weft) -> None:
    """A client that keeps an idle connection for 5 s, as httpx does, never meets one that the
    gateway closes at that moment."""
    connection = HTTPConnection("127.0.0.1", weft.settings.port, timeout=20)
    connection.connect()
    used = connection.sock
    for wait in (CLIENTS_KEEP_SECONDS + 1, 0):
        connection.request("GET", "/v1/models")
        assert connection.getresponse().read()
        time.sleep(wait)
    assert connection.sock is used
    connection.close()
