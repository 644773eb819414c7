"""The deployment files agree with the code: settings, arguments, environment, files, commands.

Not covered: building the images and running them, which needs a container engine and a GPU.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer

from server.cli import app
from server.engine import command
from server.settings import Settings
from tests.deploy.formats import (
    DEPLOY,
    ROOT,
    VariableUnset,
    arguments_of,
    compose,
    deployed_files,
    environment_file,
    image_environment,
    unit_settings,
)

GATEWAY, ENGINE = DEPLOY / "gateway.Containerfile", DEPLOY / "engine.Containerfile"
RAY_IMAGE = DEPLOY / "ray.Containerfile"
IMAGES = (GATEWAY, ENGINE, RAY_IMAGE)
EXAMPLE, UNIT = DEPLOY / "weft.env.example", DEPLOY / "weft.service"
KEY = {"WEFT_ENGINE_KEY": "secret"}
# Read by the plug-in inside the engine (server/engine), which has no Settings.
PLUGIN_VARIABLES = {"WEFT_ARTIFACTS", "WEFT_LIFELINE", "WEFT_NODE_URL"}
CLIENT_VARIABLES = {"WEFT_SERVER", "WEFT_KEY"}
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SERVICES = ("gateway", "engine")
CHOSEN = {
    "WEFT_MODEL": "/models/our base",
    "WEFT_SERVED_BASE": "llama",
    "WEFT_DTYPE": "float16",
    "WEFT_MAX_LORA_RANK": "16",
    "WEFT_MAX_LORAS": "3",
    "WEFT_MAX_CPU_LORAS": "5",
    "WEFT_MAX_MODEL_LEN": "4096",
    "WEFT_ENGINE_ARGS": "--gpu-memory-utilization 0.8 --override-generation-config '{\"a\": 1}'",
}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("WEFT_", "VLLM_")):
            monkeypatch.delenv(name)


def settings_of(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> Settings:
    """Return the settings that a process with these variables reads."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Settings()


@pytest.mark.parametrize("path", deployed_files(), ids=lambda path: path.name)
def test_every_variable_named_is_one_that_weft_reads(path: Path) -> None:
    """A WEFT_* variable in a deployed file is a setting, the plug-in's or the command line's."""
    known = {f"WEFT_{name.upper()}" for name in Settings.model_fields}
    known |= PLUGIN_VARIABLES | CLIENT_VARIABLES
    assert set() == set(re.findall(r"WEFT_[A-Z0-9_]+", path.read_text())) - known


def test_readme_names_every_file_and_no_other() -> None:
    """The README's table lists all files of the folder and no others."""
    listed = set(re.findall(r"^\| `([^`/]+)` \|", (DEPLOY / "README.md").read_text(), re.MULTILINE))
    assert {path.name for path in deployed_files()} - {"README.md", ".gitignore"} == listed


class TestExampleEnvironment:
    """weft.env.example."""

    def test_every_line_is_a_valid_setting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With every line uncommented, the settings can be read."""
        settings = settings_of(monkeypatch, environment_file(EXAMPLE))
        assert 2 == len(settings.api_keys)

    def test_what_is_shown_is_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A commented line shows the setting's default, if the setting has one."""
        shown = {
            name.removeprefix("WEFT_").lower(): value
            for name, value in environment_file(EXAMPLE).items()
            if name.startswith("WEFT_")
        }
        with_default = [n for n in shown if Settings.model_fields[n].default not in (None, "", ())]
        defaults = settings_of(monkeypatch, {})
        read = settings_of(monkeypatch, {f"WEFT_{n.upper()}": shown[n] for n in with_default})
        assert defaults == read

    def test_nothing_is_set(self) -> None:
        """An unedited copy of the file sets nothing: every line is a comment or empty."""
        lines = EXAMPLE.read_text().splitlines()
        assert [] == [line for line in lines if line and not line.startswith("#")]


class TestEngineService:
    """The engine of compose.yaml is the one that `weft serve` would start."""

    @pytest.mark.parametrize("variables", [{}, CHOSEN], ids=["defaults", "everything chosen"])
    def test_arguments(self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
        """For the same settings, it gets the arguments of weft's own child, except the address."""
        monkeypatch.setattr(command, "is_cpu_build", lambda: False)
        own = command.engine_command(settings_of(monkeypatch, variables), 8000)
        own[own.index("--host") + 1] = "0.0.0.0"  # noqa: S104 - inside the compose network
        (entrypoint,) = arguments_of(ENGINE, "ENTRYPOINT")
        service = compose(KEY | variables)["services"]["engine"]
        assert own[1:] == json.loads(entrypoint)[1:] + shlex.split(service["command"])

    def test_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It gets the environment of weft's own child, except variables that only a child needs."""
        settings = settings_of(monkeypatch, {"WEFT_ARTIFACTS_DIR": "/var/lib/weft/artifacts"})
        own = dict(command.engine_environment(settings, "secret", 3))
        wanted = {name: own[name] for name in own if name.startswith(("WEFT_", "VLLM_"))}
        del wanted["WEFT_LIFELINE"], wanted["VLLM_CPU_KVCACHE_SPACE"]
        given = image_environment(ENGINE) | compose(KEY)["services"]["engine"]["environment"]
        assert wanted == {name: given.get(name) for name in wanted}

    def test_is_reached_by_the_gateway_alone(self) -> None:
        """It publishes no port and does not use the host's network."""
        assert set() == {"ports", "network_mode"} & compose(KEY)["services"]["engine"].keys()

    def test_has_a_gpu(self) -> None:
        """An NVIDIA device is reserved for it."""
        reserved = compose(KEY)["services"]["engine"]["deploy"]["resources"]["reservations"]
        assert [("nvidia", ["gpu"])] == [
            (device["driver"], device["capabilities"]) for device in reserved["devices"]
        ]

    def test_keeps_its_host_name(self) -> None:
        """It has a fixed host name, by which a new container finds what an earlier one pinned."""
        assert "hostname" in compose(KEY)["services"]["engine"]

    @pytest.mark.parametrize("path", [ENGINE, RAY_IMAGE], ids=lambda path: path.name)
    def test_image_is_the_pinned_release(self, path: Path) -> None:
        """Images with an engine have the vLLM version that the extra `gpu` pins."""
        (pin,) = PYPROJECT["project"]["optional-dependencies"]["gpu"]
        image = arguments_of(path, "FROM")[-1]
        assert f"vllm/vllm-openai:v{pin.removeprefix('vllm==')}" == image


class TestServicesTogether:
    """The gateway and the engine of compose.yaml match."""

    def test_one_artifacts_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both use one artifacts folder at the same path, on a shared volume."""
        gateway, engine = (compose(KEY)["services"][name] for name in SERVICES)
        settings = settings_of(monkeypatch, gateway["environment"])
        assert settings.artifacts == Path(image_environment(ENGINE)["WEFT_ARTIFACTS"])
        assert ["weft:/var/lib/weft"] == gateway["volumes"]
        shared = [volume for volume in engine["volumes"] if isinstance(volume, dict)]
        assert [("weft", str(settings.artifacts), {"subpath": "artifacts"})] == [
            (volume["source"], volume["target"], volume["volume"]) for volume in shared
        ]
        assert settings.home == Path("/var/lib/weft")
        assert settings.artifacts == settings.home / "artifacts"

    def test_the_engine_sees_nothing_else_of_the_home(self) -> None:
        """Of the home the engine mounts the artifacts only; the folder is made before it starts."""
        services = compose(KEY)["services"]
        named = [v for v in services["engine"]["volumes"] if isinstance(v, str)]
        assert ["models:/var/lib/weft/.cache"] == named
        assert "folders" in services["engine"]["depends_on"]
        assert services["folders"]["entrypoint"][-1] == "/var/lib/weft/artifacts"
        assert services["folders"]["volumes"] == services["gateway"]["volumes"]

    @pytest.mark.parametrize("name", SERVICES)
    def test_memory_is_limited(self, name: str) -> None:
        """Each service has a limit of memory, which an operator can change."""
        assert re.fullmatch(r"\d+g", compose(KEY)["services"][name]["mem_limit"])
        chosen = compose(KEY | {f"{name.upper()}_MEMORY": "3g"})["services"][name]
        assert chosen["mem_limit"] == "3g"

    def test_the_gateway_runs_no_jobs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The gateway has no GPU, so it does not load the base for jobs."""
        settings = settings_of(monkeypatch, compose(KEY)["services"]["gateway"]["environment"])
        assert () == settings.job_devices

    def test_what_compose_mounts_exists(self) -> None:
        """Every file of the project that a service mounts exists."""
        sources = [
            volume.partition(":")[0]
            for service in compose(KEY)["services"].values()
            for volume in service.get("volumes", ())
            if isinstance(volume, str) and volume.startswith("./")
        ]
        assert len(sources) == 4
        assert [] == [source for source in sources if not (DEPLOY / source).exists()]

    def test_one_unprivileged_user(self) -> None:
        """Both run as the same unprivileged user, who exists in the image and owns the volume."""
        (gateway,), (engine,) = (arguments_of(path, "USER") for path in (GATEWAY, ENGINE))
        assert gateway == engine
        number, _, group = gateway.partition(":")
        assert number == group
        assert int(number) >= 1000
        for path in IMAGES:
            made = f"useradd --uid {number} --create-home --home-dir /var/lib/weft "
            assert 1 == sum(run.startswith(made) for run in arguments_of(path, "RUN"))

    def test_one_key(self) -> None:
        """The gateway's key for the engine is the key that the engine requires."""
        gateway, engine = (compose(KEY)["services"][name]["environment"] for name in SERVICES)
        assert "secret" == gateway["WEFT_ENGINE_KEY"] == engine["VLLM_API_KEY"]

    def test_no_start_without_a_key(self) -> None:
        """Compose refuses to start while the key is not set, and says where to set it."""
        with pytest.raises(VariableUnset, match=r"WEFT_ENGINE_KEY.*\.env"):
            compose({})

    def test_the_gateway_finds_the_engine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The engine's URL is its service's name and the port that it listens on."""
        services = compose(KEY)["services"]
        settings = settings_of(monkeypatch, services["gateway"]["environment"])
        arguments = shlex.split(services["engine"]["command"])
        port = arguments[arguments.index("--port") + 1]
        assert (f"http://engine:{port}",) == settings.engine_url

    @pytest.mark.parametrize(
        ("variables", "published"),
        [
            ({}, "127.0.0.1:8000"),
            ({"WEFT_HOST": "10.0.0.7", "WEFT_PORT": "80"}, "10.0.0.7:80"),
        ],
    )
    def test_where_clients_connect(
        self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], published: str
    ) -> None:
        """The gateway's port is published at the configured address; by default on localhost."""
        gateway = compose(KEY | variables)["services"]["gateway"]
        settings = settings_of(monkeypatch, variables | gateway["environment"])
        assert [f"{published}:{settings.port}"] == gateway["ports"]

    @pytest.mark.parametrize("name", SERVICES)
    def test_each_is_restarted_and_confined(self, name: str) -> None:
        """Each service is restarted when it dies, and has no capabilities and cannot gain any."""
        service = compose(KEY)["services"][name]
        assert "unless-stopped" == service["restart"]
        assert ["ALL"] == service["cap_drop"]
        assert ["no-new-privileges:true"] == service["security_opt"]

    @pytest.mark.parametrize("name", SERVICES)
    @pytest.mark.parametrize(("answer", "code"), [(200, 0), (503, 1)])
    def test_health_check_reads_the_answer(self, name: str, answer: int, code: int) -> None:
        """The health check passes on 200 from /health, and fails on anything else."""
        kind, *words = compose(KEY)["services"][name]["healthcheck"]["test"]
        assert ("CMD", ["python3", "-c"]) == (kind, words[:-1])
        with answering(answer) as port:
            script = words[-1].replace("8000", str(port))
            ended = subprocess.run([sys.executable, "-c", script], check=False, timeout=30)
        assert code == ended.returncode


class TestImages:
    """The container files."""

    @pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
    def test_sources_exist(self, path: Path) -> None:
        """Every path that a container file copies from the project exists."""
        copied = copied_sources(path)
        assert set() == {source for source in copied if not (ROOT / source).exists()}

    @pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
    def test_the_whole_package_is_installed(self, path: Path) -> None:
        """Every package of the wheel, and every file that its metadata names, is copied."""
        packages = PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
        project = PYPROJECT["project"]
        wanted = {name.rstrip("*") for name in packages} | set(project["license-files"])
        wanted |= {"pyproject.toml", project["readme"]}
        assert set() == wanted - copied_sources(path)

    def test_gateway_listens_beyond_its_container(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The gateway's image listens on every interface of its container, at the exposed port."""
        environment = image_environment(GATEWAY)
        del environment["PATH"]
        settings = settings_of(monkeypatch, environment)
        assert "0.0.0.0" == settings.host  # noqa: S104
        assert [str(settings.port)] == arguments_of(GATEWAY, "EXPOSE")


class TestUnit:
    """weft.service."""

    def test_starts_a_command_that_exists(self) -> None:
        """ExecStart and the gateway's image run a subcommand that `weft` has."""
        (start,) = unit_settings(UNIT)["ExecStart"]
        (entrypoint,), (arguments,) = (arguments_of(GATEWAY, n) for n in ("ENTRYPOINT", "CMD"))
        for words in (start.split(), json.loads(entrypoint) + json.loads(arguments)):
            program, subcommand = words
            assert Path(program).name in PYPROJECT["project"]["scripts"]
            assert subcommand in typer.main.get_command(app).commands  # type: ignore[attr-defined]

    def test_keeps_its_state_where_it_can_write(self) -> None:
        """The home is the state directory, the only folder kept across restarts and updates."""
        unit = unit_settings(UNIT)
        assert ["weft"] == unit["StateDirectory"]
        assert "WEFT_HOME=%S/weft" in unit["Environment"]

    def test_leaves_the_gpu_visible(self) -> None:
        """The unit neither hides device files nor forbids code compiled at run time."""
        hiding = {"PrivateDevices", "ProtectClock", "DevicePolicy", "MemoryDenyWriteExecute"}
        assert set() == hiding & unit_settings(UNIT).keys()


def copied_sources(containerfile: Path) -> set[str]:
    """Return the paths that COPY takes from the project."""
    sources: set[str] = set()
    for arguments in arguments_of(containerfile, "COPY"):
        if not arguments.startswith("--from="):
            sources |= set(arguments.split()[:-1])
    return sources


@contextmanager
def answering(
    status: int,
    *,
    path: str = "/health",
    ask: Callable[[BaseHTTPRequestHandler], None] | None = None,
) -> Iterator[int]:
    """Serve `path` with `status` on a free port, everything else with 404.

    `ask` is called with each request.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if ask is not None:
                ask(self)
            self.send_response(status if self.path == path else 404)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            del args

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
