"""Renders deploy/kubernetes with kubectl, which `make setup` installs, and reads the objects.

Nothing here asks a cluster. Not covered: names in namespaces, volumes of other kinds than those
used.
"""

import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import kubernetes_validate
import yaml
from kubernetes_validate import utils

from tests.deploy.formats import DEPLOY

KUBERNETES = DEPLOY / "kubernetes"
Object = dict[str, Any]
_POD_TEMPLATES = {"Deployment", "StatefulSet"}
_UNITS = {"": 1, "Mi": 2**20, "Gi": 2**30}
# The package reads a megabyte of definitions for every object.
_schema_contents = functools.cache(utils.schema_contents)


@dataclass(frozen=True)
class Pod:
    """A pod template: the name of the object that it is part of, its labels and its spec."""

    owner: str
    labels: Mapping[str, str]
    spec: Object

    def containers(self) -> list[Object]:
        """Return the containers, sidecars first."""
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]

    def container(self, name: str) -> Object:
        """Return a container by its name."""
        (container,) = (one for one in self.containers() if one["name"] == name)
        return container


@functools.cache
def render(folder: Path) -> tuple[Object, ...]:
    """Return the objects of a kustomization.

    Raises:
        AssertionError: kubectl is not installed, or it finds a fault.
    """
    own = Path(sys.executable).parent / "kubectl"
    program = str(own) if own.exists() else shutil.which("kubectl")
    assert program, "kubectl is missing: run `make setup`"
    ended = subprocess.run(
        [program, "kustomize", str(folder)], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr, ended.stderr  # a warning of something deprecated
    return tuple(yaml.safe_load_all(ended.stdout))


def validate(one: Object, release: str) -> None:
    """Check an object by the schema of its kind in a release of Kubernetes.

    Raises:
        kubernetes_validate.ValidationError: a key is unknown or missing, or a type is wrong.
    """
    with patch.object(utils, "schema_contents", _schema_contents):
        kubernetes_validate.validate(one, release, strict=True)


def of_kind(objects: tuple[Object, ...], kind: str) -> list[Object]:
    """Return the objects of one kind."""
    return [one for one in objects if one["kind"] == kind]


def pods(objects: tuple[Object, ...]) -> list[Pod]:
    """Return every pod template of the objects."""
    return [
        Pod(one["metadata"]["name"], template["metadata"].get("labels", {}), template["spec"])
        for one in objects
        for template in _templates(one)
    ]


def environment(objects: tuple[Object, ...], container: Object) -> dict[str, str]:
    """Return a container's variables; a value from a secret is `secret`."""
    maps = {one["metadata"]["name"]: one["data"] for one in of_kind(objects, "ConfigMap")}
    variables: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        if "configMapRef" in source:
            variables |= maps[source["configMapRef"]["name"]]
    for one in container.get("env", ()):
        variables[one["name"]] = one.get("value", "secret")
    return variables


def arguments(objects: tuple[Object, ...], container: Object) -> list[str]:
    """Return a container's arguments with its variables in the places of `$(NAME)`."""
    variables = environment(objects, container)
    return [
        re.sub(r"\$\((\w+)\)", lambda match: variables[match[1]], argument)
        for argument in container["args"]
    ]


def size(quantity: str) -> int:
    """Return the bytes of a quantity such as 4Gi."""
    match = re.fullmatch(r"(\d+)([MG]i)?", quantity)
    assert match, quantity
    return int(match[1]) * _UNITS[match[2] or ""]


def _templates(one: Object) -> Iterator[Object]:
    if one["kind"] in _POD_TEMPLATES:
        yield one["spec"]["template"]
    if one["kind"] == "RayService":
        cluster = one["spec"]["rayClusterConfig"]
        yield cluster["headGroupSpec"]["template"]
        yield from (group["template"] for group in cluster["workerGroupSpecs"])
