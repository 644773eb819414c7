"""A real S3 server for the tests: SeaweedFS as one process, with its data in a folder."""

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.engine.gateway import free_port

_START_SECONDS = 60.0
_BUCKET = "weft"


class Seaweed:
    """An S3 server that can be stopped and started again with the same data.

    Attributes:
        url: of the store, for `WEFT_STORE`.
        environ: variables by which obstore finds the server and may use it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
        self._grpc = {name: free_port() for name in self._ports}
        self.url = f"s3://{_BUCKET}"
        key, secret = secrets.token_hex(8), secrets.token_hex(16)
        self.environ: Mapping[str, str] = {
            "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT": self.endpoint, "AWS_ALLOW_HTTP": "true",
        }  # fmt: skip
        user = {
            "name": "weft", "credentials": [{"accessKey": key, "secretKey": secret}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }  # fmt: skip
        (folder / "s3.json").write_text(json.dumps({"identities": [user]}))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """The URL of the S3 API."""
        return f"http://127.0.0.1:{self._ports['s3']}"

    def start(self) -> None:
        """Start the server; return once the bucket can be used.

        Raises:
            RuntimeError: it has ended; its log is in the folder.
            TimeoutError: it does not answer.
        """
        command = [
            str(Path(sys.executable).with_name("weed")), "server", f"-dir={self._folder}",
            "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-master.telemetry=false",
            "-volume.max=20", "-master.volumeSizeLimitMB=64", "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.config={self._folder / 's3.json'}",
            *(f"-{name}.port={port}" for name, port in self._ports.items()),
            *(f"-{name}.port.grpc={port}" for name, port in self._grpc.items()),
        ]  # fmt: skip
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"SeaweedFS ended; its log is {self._folder / 'log'}")
            if self._usable():
                return
            time.sleep(0.1)
        raise TimeoutError(f"SeaweedFS does not answer; its log is {self._folder / 'log'}")

    def stop(self) -> None:
        """End the server at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _usable(self) -> bool:
        """Make the bucket unless it is there; return whether the S3 API answers."""
        try:
            made = httpx.post(
                f"http://127.0.0.1:{self._ports['filer']}/buckets/{_BUCKET}/", trust_env=False
            )
            answer = httpx.get(self.endpoint, trust_env=False)  # 403: it wants a signature
        except httpx.TransportError:
            return False
        return (made.is_success or made.status_code == 409) and answer.status_code < 500


@contextmanager
def seaweed(folder: Path) -> Iterator[Seaweed]:
    """Run a server with an empty bucket; its data goes into the new folder."""
    server = Seaweed(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
