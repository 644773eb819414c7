"""A program that replaces vLLM: it answers probes of its core and misbehaves as its arguments say.

Run as a script: PORT PIDFILE MODE. Not covered: anything an engine does beside living and dying.
"""

import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Health(BaseHTTPRequestHandler):
    """Answers 200, or 503 or nothing once the file beside the pid file exists and says so.

    /health stays 200, as vLLM's does while its core hangs.
    """

    def do_GET(self) -> None:
        """Answer."""
        sick = Path(sys.argv[2] + ".sick")
        illness = sick.read_text() if sick.exists() else ""
        if illness == "hung" and self.path != "/health":
            time.sleep(60)
        announced = 404 if self.path == "/weft/engine" else 200  # as an older plug-in
        self.send_response(503 if illness == "sick" else announced)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


def say(line: str) -> None:
    """Write a line to the log."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run as `MODE` says."""
    port, pids, mode = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    say(f"stub engine, mode {mode}")
    if mode == "exits":
        say("no weights, no service")
        sys.exit(3)
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with pids.open("a") as file:
        file.write(f"{os.getpid()} {child.pid}\n")
    if mode == "chatters":
        for number in range(5000):
            say(f"line {number} " + 40 * "x")
    if mode == "hangs":
        time.sleep(60)
    ThreadingHTTPServer(("127.0.0.1", port), Health).serve_forever()


if __name__ == "__main__":
    main()
