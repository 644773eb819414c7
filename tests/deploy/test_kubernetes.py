"""The Kubernetes manifests agree with Kubernetes' schemas, with the code and with each other.

Not covered: a cluster. None can run here.
"""

import copy
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer

from server.auth import OPEN_PATHS
from server.cli import app
from server.engine import command
from server.settings import Settings
from tests.deploy.formats import arguments_of, image_environment
from tests.deploy.kubernetes import (
    KUBERNETES,
    Object,
    Pod,
    arguments,
    environment,
    of_kind,
    pods,
    render,
    size,
    validate,
)
from tests.deploy.test_deploy import (
    ENGINE,
    GATEWAY,
    PLUGIN_VARIABLES,
    RAY_IMAGE,
    answering,
    settings_of,
)  # fmt: skip

BASE, RAY = KUBERNETES / "base", KUBERNETES / "ray"
README = (KUBERNETES / "README.md").read_text()
EVERYTHING = render(BASE) + render(RAY)
# The oldest release whose `sleep` before a stop and whose sidecars need no feature gate, and the
# newest that the package knows.
RELEASES = ("1.30", "1.37")
# The one kind that is not Kubernetes' own is checked in test_ray_service.py.
EVERY_OBJECT = [
    pytest.param(one, id=f"{folder.name}-{one['kind']}-{one['metadata']['name']}")
    for folder in (BASE, RAY)
    for one in render(folder)
    if one["kind"] != "RayService"
]
EVERY_POD = [
    pytest.param(pod, id=f"{pod.owner}-{number}")
    for folder in (BASE, RAY)
    for number, pod in enumerate(pods(render(folder)))
]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("WEFT_", "VLLM_")):
            monkeypatch.delenv(name)


def pod_of(owner: str) -> Pod:
    """Return the pod template of an object of the base."""
    (pod,) = (one for one in pods(render(BASE)) if one.owner == owner)
    return pod


def dictionaries(node: Any) -> Iterator[Object]:
    """Yield every dictionary in `node` whose keys Kubernetes defines."""
    if isinstance(node, list):
        for one in node:
            yield from dictionaries(one)
    if isinstance(node, dict):
        yield node
        for key, one in node.items():
            if key not in ("data", "labels", "matchLabels", "requests", "limits"):
                yield from dictionaries(one)


class TestObjects:
    """Each object by itself."""

    @pytest.mark.parametrize("release", RELEASES)
    @pytest.mark.parametrize("one", EVERY_OBJECT)
    def test_matches_kubernetes_schema(self, one: Object, release: str) -> None:
        """Every object has fields of its kind and no others, in the oldest and newest release."""
        validate(one, release)

    def test_an_unknown_key_is_refused_anywhere(self) -> None:
        """The check above refuses a misspelt key in whatever part of an object it is."""
        one = copy.deepcopy(of_kind(render(BASE), "StatefulSet")[0])
        places = {tuple(sorted(place)): place for place in dictionaries(one)}
        assert len(places) > 25
        for place in places.values():
            place["misspelt"] = "x"
            with pytest.raises(kubernetes_validate.ValidationError):
                validate(one, RELEASES[-1])
            del place["misspelt"]

    def test_the_readme_says_that_no_cluster_was_run(self) -> None:
        """The README says what was not tried, and the oldest release."""
        assert "No cluster has run these manifests" in README
        assert f"Kubernetes {RELEASES[0]}" in README


@pytest.mark.parametrize("pod", EVERY_POD)
class TestEveryPod:
    """What holds for the pods of gateways and engines alike."""

    def test_is_confined(self, pod: Pod) -> None:
        """Pods satisfy the standard `restricted`, and their root file systems are read-only."""
        (uid,) = {arguments_of(path, "USER")[0] for path in (GATEWAY, ENGINE, RAY_IMAGE)}
        context = pod.spec["securityContext"]
        assert context["runAsNonRoot"]
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert uid == f"{context['runAsUser']}:{context['runAsGroup']}"
        assert context["fsGroup"] == context["runAsGroup"]
        for container in pod.containers():
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]  # noqa: S108

    def test_gets_no_variables_of_services(self, pod: Pod) -> None:
        """Kubernetes adds no variable such as WEFT_PORT, which weft would read as a setting."""
        assert pod.spec["enableServiceLinks"] is False

    def test_has_no_rights_in_the_cluster(self, pod: Pod) -> None:
        """No token of the cluster's API is mounted."""
        assert pod.spec["automountServiceAccountToken"] is False

    def test_resources_are_limited(self, pod: Pod) -> None:
        """Every container asks for CPU and memory and has a limit of memory."""
        for container in pod.containers():
            resources = container["resources"]
            assert {"cpu", "memory"} <= resources["requests"].keys()
            assert size(resources["requests"]["memory"]) <= size(resources["limits"]["memory"])

    def test_mounts_what_it_has(self, pod: Pod) -> None:
        """Every mounted volume exists, and every volume is mounted."""
        claims = [
            claim["metadata"]["name"]
            for one in of_kind(render(BASE), "StatefulSet")
            for claim in one["spec"]["volumeClaimTemplates"]
            if one["metadata"]["name"] == pod.owner
        ]
        volumes = {volume["name"] for volume in pod.spec["volumes"]} | set(claims)
        mounted = {mount["name"] for one in pod.containers() for mount in one["volumeMounts"]}
        assert volumes == mounted

    def test_variables_are_known(self, pod: Pod) -> None:
        """Every WEFT_* variable is a setting or the plug-in's."""
        known = {f"WEFT_{name.upper()}" for name in Settings.model_fields} | PLUGIN_VARIABLES
        for container in pod.containers():
            names = {n for n in environment(EVERYTHING, container) if n.startswith("WEFT_")}
            assert set() == names - known


class TestGateway:
    """The Deployment weft-gateway."""

    def test_settings_can_be_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The gateway starts with its image's and its pod's variables, on engines elsewhere."""
        pod = environment(render(BASE), pod_of("weft-gateway").container("gateway"))
        image = image_environment(GATEWAY)
        del image["PATH"]
        settings = settings_of(monkeypatch, image | pod)
        assert ("http://weft-engine:8000",) == settings.engine_url
        assert () == settings.job_devices

    def test_has_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Memory is above what builds may take, and the volume above the budget of artifacts."""
        pod = pod_of("weft-gateway")
        gateway = pod.container("gateway")
        settings = settings_of(monkeypatch, environment(render(BASE), gateway))
        memory = size(gateway["resources"]["limits"]["memory"])
        assert memory > settings.merge_workers * settings.merge_max_bytes
        volumes = {one["name"]: size(one["emptyDir"]["sizeLimit"]) for one in pod.spec["volumes"]}
        assert volumes["home"] > settings.artifact_budget_bytes + settings.store_cache_bytes
        limit = gateway["resources"]["limits"]["ephemeral-storage"]
        assert size(limit) > sum(volumes.values())

    def test_probes_ask_open_routes(self) -> None:
        """Life is asked of /health and readiness of /ready, which want no key."""
        gateway = pod_of("weft-gateway").container("gateway")
        paths = {name: gateway[f"{name}Probe"]["httpGet"]["path"] for name in PROBES}
        assert {"startup": "/health", "liveness": "/health", "readiness": "/ready"} == paths
        assert set(paths.values()) <= OPEN_PATHS

    def test_has_time_to_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The gateway waits for its engines and is not killed meanwhile."""
        gateway = pod_of("weft-gateway").container("gateway")
        settings = settings_of(monkeypatch, environment(render(BASE), gateway))
        probe = gateway["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] > settings.engine_start_seconds


PROBES = ("startup", "liveness", "readiness")


class TestEngine:
    """The StatefulSet weft-engine."""

    def test_arguments(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It gets the arguments of weft's own child, except the address."""
        monkeypatch.setattr(command, "is_cpu_build", lambda: False)
        gateway = pod_of("weft-gateway").container("gateway")
        settings = settings_of(monkeypatch, environment(render(BASE), gateway))
        own = command.engine_command(settings, 8000)
        own[own.index("--host") + 1] = "0.0.0.0"  # noqa: S104 - inside the pod's network
        engine = pod_of("weft-engine").container("engine")
        assert own[3:] == arguments(render(BASE), engine)

    def test_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Image and pod set what weft's own child gets, and the key that gateways send."""
        pod = pod_of("weft-engine")
        settings = settings_of(monkeypatch, {"WEFT_ARTIFACTS_DIR": "/var/lib/weft/artifacts"})
        own = dict(command.engine_environment(settings, "secret", 3))
        wanted = {name: own[name] for name in own if name.startswith(("WEFT_", "VLLM_"))}
        del wanted["WEFT_LIFELINE"], wanted["VLLM_CPU_KVCACHE_SPACE"]
        variables = image_environment(ENGINE) | environment(render(BASE), pod.container("engine"))
        assert wanted == {name: variables.get(name) for name in wanted}

    def test_has_a_gpu(self) -> None:
        """One GPU is requested, and a node that is reserved for GPUs may be taken."""
        pod = pod_of("weft-engine")
        resources = pod.container("engine")["resources"]
        assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"]
        assert "nvidia.com/gpu" in [one["key"] for one in pod.spec["tolerations"]]

    def test_loads_what_the_node_brings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Node and engine mount one volume, at the folder that the settings of both name."""
        pod = pod_of("weft-engine")
        node = pod.container("node")
        settings = settings_of(
            monkeypatch, {"WEFT_HOME": "/var/lib/weft"} | environment(render(BASE), node)
        )
        assert str(settings.artifacts) == image_environment(ENGINE)["WEFT_ARTIFACTS"]
        mount = {"name": "artifacts", "mountPath": str(settings.artifacts)}
        assert mount in node["volumeMounts"]
        assert mount in pod.container("engine")["volumeMounts"]
        volumes = {one["name"]: size(one["emptyDir"]["sizeLimit"]) for one in pod.spec["volumes"]}
        assert volumes["artifacts"] > settings.artifact_budget_bytes

    def test_the_node_is_where_the_engine_asks(self) -> None:
        """`weft node` gets options that it has, and listens where the engine and the probe ask."""
        pod = pod_of("weft-engine")
        name, *options = pod.container("node")["args"]
        weft: Any = typer.main.get_command(app)
        context = weft.get_command(None, name).make_context(name, options)
        assert "http://127.0.0.1:8000" == context.params["engine_url"]
        url = environment(render(BASE), pod.container("engine"))["WEFT_NODE_URL"]
        assert f"http://127.0.0.1:{context.params['port']}" == url
        *_, script = pod.container("node")["livenessProbe"]["exec"]["command"]
        assert f'"127.0.0.1", {context.params["port"]}' in script

    def test_the_engine_gets_no_secret_of_the_bucket(self) -> None:
        """Only the node has credentials of the bucket, and they are not the gateway's."""
        pod = pod_of("weft-engine")
        assert ["weft-keys"] == sorted(secrets_of(pod.container("engine")))
        assert ["weft-bucket-read", "weft-keys"] == sorted(secrets_of(pod.container("node")))

    def test_the_node_starts_before_the_engine(self) -> None:
        """The node is a sidecar: it starts before the engine and ends after it."""
        assert "Always" == pod_of("weft-engine").container("node")["restartPolicy"]

    @pytest.mark.parametrize(("answer", "code"), [(200, 0), (503, 1)])
    def test_life_is_asked_of_the_core(self, answer: int, code: int) -> None:
        """The probe of life sends the engine's key to a route that passes through its core."""
        probe = pod_of("weft-engine").container("engine")["livenessProbe"]
        program, flag, script = probe["exec"]["command"]
        assert (program, flag) == ("python3", "-c")
        asked: list[str | None] = []

        def ask(handler: BaseHTTPRequestHandler) -> None:
            asked.append(handler.headers["authorization"])

        with answering(answer, path="/weft/adapters", ask=ask) as port:
            script = script.replace("8000", str(port))
            variables = os.environ | {"VLLM_API_KEY": "secret"}
            ended = subprocess.run(
                [sys.executable, "-c", script], check=False, timeout=30, env=variables
            )
        assert (code, ["Bearer secret"]) == (ended.returncode, asked)


class TestTogether:
    """The objects of the base match."""

    def test_selectors_select_pods(self) -> None:
        """Services, budgets, policies, spreads and autoscalers name pods that exist."""
        objects = render(BASE)
        labels = [pod.labels.items() for pod in pods(objects)]
        selectors = [one["spec"]["selector"] for one in of_kind(objects, "Service")]
        selectors += [
            place["matchLabels"] for one in objects for place in dictionaries(one)
            if "matchLabels" in place
        ]  # fmt: skip
        assert len(selectors) == 13
        for selector in selectors:
            assert any(selector.items() <= pod for pod in labels), selector
        (scaler,) = of_kind(objects, "HorizontalPodAutoscaler")
        assert "weft-gateway" == scaler["spec"]["scaleTargetRef"]["name"]

    def test_gateways_are_added_before_their_loop_is_full(self) -> None:
        """The autoscaler adds a gateway below one CPU, which is all that its one thread can use."""
        (scaler,) = of_kind(render(BASE), "HorizontalPodAutoscaler")
        share = scaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] / 100
        gateway = pod_of("weft-gateway").container("gateway")
        assert 0.5 < share * float(gateway["resources"]["requests"]["cpu"]) < 0.9

    @pytest.mark.parametrize(
        ("owner", "name"), [("weft-gateway", "gateway"), ("weft-engine", "engine")]
    )
    def test_pods_have_time_to_stop(self, owner: str, name: str) -> None:
        """A pod may take longer to stop than its answers in progress have."""
        pod = pod_of(owner)
        main = pod.container(name)
        drain = float(environment(render(BASE), main)["WEFT_DRAIN_SECONDS"])
        pause = main["lifecycle"]["preStop"]["sleep"]["seconds"]
        after = drain if name == "gateway" else 0  # vLLM cuts what is left
        assert pod.spec["terminationGracePeriodSeconds"] >= pause + after + 20
        assert name == "gateway" or pause > drain

    def test_gateways_reach_engines(self) -> None:
        """The engines' service is headless, and its name is in the gateway's URL."""
        (service,) = (
            one for one in of_kind(render(BASE), "Service") if one["spec"].get("clusterIP")
        )
        gateway = environment(render(BASE), pod_of("weft-gateway").container("gateway"))
        name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
        assert "None" == service["spec"]["clusterIP"]
        assert f"http://{name}:{port}" == gateway["WEFT_ENGINE_URL"]
        (owner,) = of_kind(render(BASE), "StatefulSet")
        assert name == owner["spec"]["serviceName"]

    def test_every_pod_has_a_policy_of_its_network(self) -> None:
        """Each pod is under a NetworkPolicy for both directions; engines answer gateways alone."""
        policies = of_kind(EVERYTHING, "NetworkPolicy")
        for pod in pods(EVERYTHING):
            (policy,) = (
                one for one in policies
                if one["spec"]["podSelector"]["matchLabels"].items() <= pod.labels.items()
            )  # fmt: skip
            assert ["Ingress", "Egress"] == policy["spec"]["policyTypes"]
        (engine,) = (one for one in policies if one["metadata"]["name"] == "weft-engine")
        (rule,) = engine["spec"]["ingress"]
        selector = {"matchLabels": {"app.kubernetes.io/name": "weft-gateway"}}
        assert [{"podSelector": selector}] == rule["from"]

    def test_the_readme_makes_every_secret(self) -> None:
        """The README's commands create each secret that a pod reads, with each key it wants."""
        created = dict(
            re.findall(r"kubectl create secret generic (\S+)((?:[^\n]*\\\n)*[^\n]*)", README)
        )
        for pod in pods(EVERYTHING):
            for container in pod.containers():
                assert secrets_of(container) <= created.keys()
                for one in container["env"]:
                    source = one.get("valueFrom", {}).get("secretKeyRef")
                    if source:
                        assert source["key"] in created[source["name"]]

    def test_the_readmes_kustomization_renders(self, tmp_path: Path) -> None:
        """The kustomization of the README renders as it is, with its images and settings in it."""
        (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
        base = os.path.relpath(BASE, tmp_path)
        (tmp_path / "kustomization.yaml").write_text(
            text.replace("weft/deploy/kubernetes/base", base)
        )
        objects = render(tmp_path)
        images = {c["image"] for pod in pods(objects) for c in pod.containers()}
        assert all("/" in image and ":" in image for image in images)
        assert images.isdisjoint(c["image"] for pod in pods(render(BASE)) for c in pod.containers())
        for one in objects:
            if one["kind"] != "Namespace":
                validate(one, RELEASES[-1])


def secrets_of(container: Object) -> set[str]:
    """Return the names of the secrets that a container reads."""
    whole = {
        source["secretRef"]["name"] for source in container["envFrom"] if "secretRef" in source
    }
    keys = [one.get("valueFrom", {}).get("secretKeyRef") for one in container["env"]]
    return whole | {key["name"] for key in keys if key}
