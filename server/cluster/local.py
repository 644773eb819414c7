"""A Ray cluster of this machine alone, for `weft cluster up`, `status` and `down`.

The head is `ray start --head --block` in a session of its own: the processes of that session are
the cluster, so that they are ended without touching another's. A folder in the home has the
cluster's token, log and addresses. Imports no Ray: its command and the REST API of its dashboard
do all. Not covered: what is deployed (`serve_config.py`).
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import psutil

from merge.peft_format.atomic_files import make_folders
from server.cluster.serve_config import APPLICATION
from server.settings import Settings

_STATE_NAME, _TOKEN_NAME, _LOG_NAME = "cluster.json", "token", "ray.log"
_HEAD_SECONDS, _ANSWER_SECONDS, _STOP_SECONDS = 180.0, 120.0, 45.0
_POLL_SECONDS = 0.5
# Ray's objects are the files of merges on their way to a gateway.
_OBJECT_BYTES = 2**30
_APPLICATIONS = "/api/serve/applications/"
_TAIL_BYTES = 2000


class ClusterError(OSError):
    """A cluster of this machine does not start, or is not there."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that was started on a home.

    Attributes:
        pid: of the head, which leads the session of all its processes.
        created: when the head began, so that another process of the same number is none.
        dashboard: the URL of Ray's dashboard and REST API.
        url: where the gateways answer.
        folder: the cluster's files.
    """

    pid: int
    created: float
    dashboard: str
    url: str
    folder: str

    def runs(self) -> bool:
        """Return whether the head runs."""
        try:
            process = psutil.Process(self.pid)
            is_zombie = process.status() == psutil.STATUS_ZOMBIE
            return bool(process.create_time() == self.created) and not is_zombie
        except psutil.NoSuchProcess:
            return False

    def applications(self) -> dict[str, Any]:
        """Return what Serve runs, as its REST API tells it. Raises ClusterError: no answer."""
        answer: dict[str, Any] = self._ask("GET").json()
        return answer

    def deploy(self, config: Mapping[str, Any]) -> None:
        """Have Serve run `config` in place of what it runs. Raises ClusterError: it refuses."""
        self._ask("PUT", config)

    def remove(self) -> None:
        """End what Serve runs, in order. Raises ClusterError: no answer."""
        self._ask("DELETE")

    def _ask(self, method: str, body: object = None) -> httpx.Response:
        token = (Path(self.folder) / _TOKEN_NAME).read_text()
        try:
            response = httpx.request(
                method, self.dashboard + _APPLICATIONS, json=body, timeout=_ANSWER_SECONDS,
                headers={"authorization": f"Bearer {token}"}, trust_env=False,
            )  # fmt: skip
        except httpx.HTTPError as error:
            raise ClusterError(f"Ray at {self.dashboard} does not answer: {error!r}") from error
        if response.status_code != 200:
            detail = response.text[-_TAIL_BYTES:]
            raise ClusterError(f"Ray answered {response.status_code}: {detail}")
        return response


def find(settings: Settings) -> Cluster | None:
    """Return the cluster that runs on the home of `settings`, if there is one."""
    try:
        cluster = Cluster(**json.loads((_folder(settings) / _STATE_NAME).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return cluster if cluster.runs() else None


def start(settings: Settings, environment: Mapping[str, str]) -> Cluster:
    """Start the head; return once Ray answers. Nothing is deployed yet.

    Args:
        settings: they name the home, and where the gateways will answer.
        environment: of all that the cluster runs, with the settings as WEFT_* variables.

    Raises:
        ClusterError: Ray is missing, a cluster runs on this home, or the head does not start.
    """
    if find_spec("ray") is None:
        raise ClusterError(
            "Ray is not installed: install weft with its extra, as in pip install 'weft[ray]'"
        )
    if running := find(settings):
        raise ClusterError(
            f"a cluster runs on this home, at {running.url}: end it with `weft cluster down`"
        )
    folder = _folder(settings)
    make_folders(folder)
    token = _new_token(folder)
    ray_port, client_port, dashboard_port, metrics_port, statistics_port = _free_ports(5)
    variables = {
        "RAY_AUTH_MODE": "token",  # Ray runs programs for every client of its ports
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # `stop` ends what runs before
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",  # of 30, for others to notice
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "3600",  # a reload cuts requests that last longer
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(statistics_port),
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # of 5, which a busy machine exceeds
        "WEFT_HOME": str(settings.home.resolve()),
    }
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
        "--port", str(ray_port), "--dashboard-host", "127.0.0.1",
        "--dashboard-port", str(dashboard_port), "--object-store-memory", str(_OBJECT_BYTES),
        "--ray-client-server-port", str(client_port), "--disable-usage-stats",
    ]  # fmt: skip
    with (folder / _LOG_NAME).open("wb") as log:
        head = subprocess.Popen(
            command, env={**environment, **variables}, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    cluster = Cluster(
        head.pid, psutil.Process(head.pid).create_time(), f"http://127.0.0.1:{dashboard_port}",
        f"http://{settings.host}:{settings.port}", str(folder),
    )  # fmt: skip
    (folder / _STATE_NAME).write_text(json.dumps(asdict(cluster)))
    try:
        _wait_for_head(cluster, head)
    except BaseException:
        stop(cluster)
        raise
    return cluster


def wait_until_served(cluster: Cluster, seconds: float, show: Callable[[str], None]) -> None:
    """Return once the gateways answer and every engine is up.

    Args:
        cluster: where a configuration was deployed.
        seconds: how long to wait.
        show: called with each stage.

    Raises:
        ClusterError: it was not reached; the message is Serve's.
    """
    deadline, shown, message = time.monotonic() + seconds, "", ""
    while time.monotonic() < deadline:
        application = cluster.applications()["applications"].get(APPLICATION, {})
        status, message = application.get("status", "NOT_STARTED"), application.get("message", "")
        if status == "RUNNING":
            return
        if status in ("DEPLOY_FAILED", "UNHEALTHY"):
            break
        stage = ", ".join(stages_of(application))
        if stage and stage != shown:
            show(stage)
            shown = stage
        time.sleep(_POLL_SECONDS)
    raise ClusterError(f"weft was not up on Ray: {message[-_TAIL_BYTES:] or 'no reason is known'}")


def stages_of(application: Mapping[str, Any]) -> list[str]:
    """Return what each deployment of an application does, as in `engine: 1 of 2 running`."""
    stages = []
    for name, deployment in sorted(application.get("deployments", {}).items()):
        states = [replica["state"] for replica in deployment["replicas"]]
        running, most = states.count("RUNNING"), deployment["target_num_replicas"]
        stages.append(f"{name}: {running} of {most} running")
    return stages


def stop(cluster: Cluster) -> None:
    """End the cluster: what Serve runs in order, then the head and all processes of its session."""
    with suppress(ClusterError):
        cluster.remove()
    with suppress(ProcessLookupError):
        os.kill(cluster.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while cluster.runs() and time.monotonic() < deadline:
        _reap(cluster.pid)
        time.sleep(_POLL_SECONDS / 5)
    deadline = time.monotonic() + _STOP_SECONDS
    while (members := _session(cluster.pid)) and time.monotonic() < deadline:
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _reap(cluster.pid)
        time.sleep(_POLL_SECONDS / 5)
    for name in (_STATE_NAME, _TOKEN_NAME):
        (Path(cluster.folder) / name).unlink(missing_ok=True)


def _wait_for_head(cluster: Cluster, head: "subprocess.Popen[bytes]") -> None:
    deadline, log = time.monotonic() + _HEAD_SECONDS, Path(cluster.folder) / _LOG_NAME
    reason = "it did not answer in time"
    while time.monotonic() < deadline:
        if head.poll() is not None:
            reason = f"it ended with code {head.returncode}"
            break
        try:
            cluster.applications()
        except ClusterError:
            time.sleep(_POLL_SECONDS)
        else:
            return
    tail = log.read_text(errors="replace")[-_TAIL_BYTES:]
    raise ClusterError(f"Ray's head does not start: {reason}. Its log is {log}:\n{tail}")


def _folder(settings: Settings) -> Path:
    return settings.home.resolve() / "cluster"


def _new_token(folder: Path) -> str:
    """Write a new token that only its owner can read; return it."""
    token, path = secrets.token_hex(32), folder / _TOKEN_NAME
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(token)
    return token


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _session(leader: int) -> list[int]:
    """Return the processes of a session that run."""
    members = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
    return members


def _reap(pid: int) -> None:
    """Forget an ended child; a head that another command started is not one."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
