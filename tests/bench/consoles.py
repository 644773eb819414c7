"""What ten open consoles cost a chat: its latency beside them and without them.

Run it with `make bench-consoles`. Chromium shows ten pages of `weft console`, of all kinds, over a
gateway with real vLLM and the tests' base; one client chats with an adapter, one request after
another. Windows with and without the consoles alternate: in those without, their processes are
stopped. The browser gets the cores when nothing else wants them (SCHED_IDLE), as if it ran on the
machines of ten people; the console's own process is beside the gateway, as in the demo.
"""

import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path

from server.cli.demo import import_demo_adapters
from server.cli.demo_console import console_beside
from tests.bench.abuse import latencies, p99
from tests.engine.gateway import descendants, running, serve_settings
from tests.server.console.browser import chromium

WINDOWS, WINDOW_SECONDS, SETTLE_SECONDS = 12, 8.0, 2.0
BOOTSTRAPS = 2000
_KEY = "unused"  # the server has no keys
_LOAD_SECONDS = 15.0  # until all pages are shown
PAGES = (
    "/", "/", "/adapters/zorp", "/compose?model=cat(zorp, blim)", "/compare?model=zorp", "/jobs",
    "/engine", "/engine", "/engine", "/registry/usage",
)  # fmt: skip
Windows = Sequence[Sequence[float]]  # milliseconds


def main() -> None:
    """Print the table and write build/bench-consoles.json."""
    with tempfile.TemporaryDirectory() as folder:
        settings = serve_settings(Path(folder) / "home")
        settings.home.mkdir()
        import_demo_adapters(settings)
        with running(settings) as weft, console_beside(weft.url) as address:
            console = address().rpartition(" ")[2]
            latencies(weft.url, _KEY, SETTLE_SECONDS)
            windows = compare(
                weft.url, console, own={weft.process.pid, *descendants(weft.process.pid)}
            )
    document = {name: figures(times) for name, times in windows.items()}
    low, high = ratio_interval(windows["alone"], windows["consoles"])
    ratio = document["consoles"]["p99"] / document["alone"]["p99"]
    for name, row in document.items():
        sys.stdout.write(f"{name:10} " + "  ".join(f"{k} {v:g}" for k, v in row.items()) + "\n")
    sys.stdout.write(f"p99 beside them over p99 alone: {ratio:.3f} [{low:.3f}, {high:.3f}]\n")
    Path("build").mkdir(exist_ok=True)
    written = document | {"ratio": [round(value, 4) for value in (ratio, low, high)]}
    Path("build/bench-consoles.json").write_text(json.dumps(written, indent=1))


def compare(server: str, console: str, *, own: Set[int]) -> Mapping[str, Windows]:
    """Return the latencies of chats in milliseconds by window, with and without open consoles.

    `own` are the processes of the server.
    """
    windows: dict[str, list[list[float]]] = defaultdict(list)
    with chromium_last(console):
        consoles = set(descendants(os.getpid())) - own
        for _ in range(WINDOWS):
            for name, do in (("alone", signal.SIGSTOP), ("consoles", signal.SIGCONT)):
                send(consoles, do)
                time.sleep(SETTLE_SECONDS)
                times, failed = latencies(server, _KEY, WINDOW_SECONDS)
                assert not failed, f"{failed} chats failed"
                windows[name].append(times)
    return windows


@contextmanager
def chromium_last(console: str) -> Iterator[None]:
    """Show all pages in a browser on idle cores alone; its processes inherit that."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with chromium() as browser:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        for path in PAGES:
            browser.new_page().goto(console + path)
        time.sleep(_LOAD_SECONDS)
        yield


def send(pids: Set[int], number: signal.Signals) -> None:
    """Send a signal to processes; some may have ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def figures(windows: Windows) -> dict[str, float]:
    """Return the number of chats, and their median and 99th percentile in milliseconds."""
    times = [ms for window in windows for ms in window]
    return {
        "chats": len(times),
        "p50": round(statistics.median(times), 2),
        "p99": round(p99(times), 2),
    }


def ratio_interval(alone: Windows, beside: Windows) -> tuple[float, float]:
    """Return 95 % of the ratios of the two p99 over pairs of windows that chance draws again."""
    chance, pairs = random.Random(0), list(zip(alone, beside, strict=True))
    ratios = []
    for _ in range(BOOTSTRAPS):
        drawn = chance.choices(pairs, k=len(pairs))
        one, other = ([ms for pair in drawn for ms in pair[side]] for side in (0, 1))
        ratios.append(p99(other) / p99(one))
    ratios.sort()
    return ratios[int(0.025 * BOOTSTRAPS)], ratios[int(0.975 * BOOTSTRAPS)]


if __name__ == "__main__":
    main()
