"""The RayService of deploy/kubernetes/ray: its keys, its pods, and what Serve is told to run.

KubeRay's own schema is in no package, so the keys of its kinds are written here (KubeRay, August
2026). Not covered: KubeRay and a cluster.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from server.cluster.serve_config import ENGINE, GATEWAY, check_config
from tests.deploy.formats import DEPLOY, image_environment
from tests.deploy.kubernetes import KUBERNETES, Object, of_kind, render, validate
from tests.deploy.test_deploy import PYPROJECT, RAY_IMAGE
from tests.deploy.test_kubernetes import RELEASES

_COMMON = {"rayStartParams", "template", "resources", "labels"}
_HEAD = _COMMON | {"enableIngress", "headService", "ingressOptions", "serviceType"}
_GROUP = _COMMON | {
    "groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts", "idleTimeoutSeconds",
    "scaleStrategy", "suspend",
}  # fmt: skip
_CLUSTER = {
    "rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs", "autoscalerOptions",
    "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headServiceAnnotations", "managedBy",
    "suspend",
}  # fmt: skip
_SERVICE = {
    "serveConfigV2", "rayClusterConfig", "excludeHeadPodFromServeSvc", "serveService",
    "serviceUnhealthySecondThreshold", "deploymentUnhealthySecondThreshold", "upgradeStrategy",
    "rayClusterDeletionDelaySeconds", "suspend", "managedBy",
}  # fmt: skip


def service() -> Object:
    """Return the RayService."""
    (one,) = of_kind(render(KUBERNETES / "ray"), "RayService")
    return one


def groups(one: Object) -> dict[str, Object]:
    """Return the groups of workers by name."""
    return {
        group["groupName"]: group for group in one["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    }


def serve_config() -> dict[str, Any]:
    """Return what Serve is told to run."""
    config: dict[str, Any] = yaml.safe_load(service()["spec"]["serveConfigV2"])
    return config


def unknown_keys(one: Object) -> Iterator[str]:
    """Yield the keys of a RayService, outside of pod templates, that KubeRay does not know."""
    cluster = one["spec"]["rayClusterConfig"]
    parts: list[tuple[Mapping[str, Any], set[str]]] = [
        (one, {"apiVersion", "kind", "metadata", "spec"}),
        (one["spec"], _SERVICE),
        (cluster, _CLUSTER),
        (cluster["authOptions"], {"mode", "secretName", "enableK8sTokenAuth"}),
        (cluster["headGroupSpec"], _HEAD),
        *((group, _GROUP) for group in cluster["workerGroupSpecs"]),
    ]
    for part, known in parts:
        yield from part.keys() - known


def places(one: Object) -> list[Object]:
    """Return the parts of a RayService into which a misspelt key may slip."""
    cluster = one["spec"]["rayClusterConfig"]
    return [one, one["spec"], cluster, cluster["authOptions"], cluster["headGroupSpec"],
            *cluster["workerGroupSpecs"]]  # fmt: skip


def test_every_key_is_known() -> None:
    """The RayService has no key that KubeRay would drop."""
    assert [] == list(unknown_keys(service()))
    assert "ray.io/v1" == service()["apiVersion"]


@pytest.mark.parametrize("number", range(7))
def test_a_misspelt_key_is_found(number: int) -> None:
    """A key that KubeRay does not know is found in every part."""
    one = copy.deepcopy(service())
    assert 7 == len(places(one))
    places(one)[number]["misspelt"] = "x"
    assert ["misspelt"] == list(unknown_keys(one))


@pytest.mark.parametrize("release", RELEASES)
def test_templates_are_pods(release: str) -> None:
    """Each template is a pod of Kubernetes' schema, without other keys."""
    cluster = service()["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        validate({"apiVersion": "v1", "kind": "Pod", **group["template"]}, release)


def test_start_parameters_are_texts() -> None:
    """KubeRay takes the arguments of `ray start` as texts: a number would be refused."""
    cluster = service()["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_serve_runs_what_deploy_ray_does() -> None:
    """The configuration of Serve is deploy/ray/serve.yaml, and Serve knows each of its keys."""
    assert yaml.safe_load((DEPLOY / "ray" / "serve.yaml").read_text()) == serve_config()
    check_config(serve_config())


def test_rays_release_is_the_pinned_one() -> None:
    """The cluster's Ray is the one that the extra `ray` pins."""
    (pin,) = PYPROJECT["project"]["optional-dependencies"]["ray"]
    assert f"ray[serve]=={service()['spec']['rayClusterConfig']['rayVersion']}" == pin


def test_every_replica_has_a_place() -> None:
    """Each engine has a worker with its GPU and CPUs, on which nothing else fits; each gateway has
    one with its CPUs and some for merges; the head runs neither."""
    (application,) = serve_config()["applications"]
    deployments = {one["name"]: one for one in application["deployments"]}
    workers = groups(service())
    for name, group in ((GATEWAY, workers["gateways"]), (ENGINE, workers["engines"])):
        assert group["minReplicas"] == group["replicas"] == deployments[name]["num_replicas"]
        options = deployments[name]["ray_actor_options"]
        spare = int(group["rayStartParams"]["num-cpus"]) - options["num_cpus"]
        assert spare >= 1 if name == GATEWAY else spare == 0
        (container,) = group["template"]["spec"]["containers"]
        gpus = container["resources"]["limits"].get("nvidia.com/gpu", "0")
        assert int(gpus) == options.get("num_gpus", 0)
    head = service()["spec"]["rayClusterConfig"]["headGroupSpec"]
    assert "0" == head["rayStartParams"]["num-cpus"]


def test_nodes_need_a_token() -> None:
    """Ray wants a token, tells nobody of its use, and has a home that its image names."""
    cluster = service()["spec"]["rayClusterConfig"]
    assert {"mode": "token"} == cluster["authOptions"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        variables = {one["name"]: one.get("value") for one in container["env"]}
        assert "0" == variables["RAY_USAGE_STATS_ENABLED"]
        assert "1" == variables["RAY_SERVE_ENABLE_HA_PROXY"]
        home = image_environment(RAY_IMAGE)["WEFT_HOME"]
        assert home in [mount["mountPath"] for mount in container["volumeMounts"]]
