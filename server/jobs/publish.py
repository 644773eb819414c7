"""A job's candidate becomes what a request can name: a version of an adapter or a composition.

An adapter that the job made becomes a version of an adapter, a recipe one of a composition; the
base is known already. Doing it again gives the same versions. Blocking: call it off the event loop.
Not covered: which candidate (`closing`), and who may ask (the routes).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merge.recipe import Recipe
from registry.errors import NameTaken
from registry.jobs.types import Job
from registry.service import Registry
from server.compose.resolve import Bare, Planned, Stored, Target
from server.jobs.storage import JobStorage

Candidate = Mapping[str, Any]


class NotServable(Exception):
    """A candidate that nobody can be served by; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Published:
    """What answers from now on, and how to have it ready."""

    model: str  # as requests name it
    target: Target


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes candidates of jobs."""

    registry: Registry
    storage: JobStorage
    served_base: str  # the base's name for clients

    def publish(self, job: Job, candidate: Candidate, name: str) -> Published:
        """Give a candidate the name, or one like it when that belongs to another kind of thing.

        Raises:
            NotServable: as it says.
            merge.errors.RecipeInvalid: its recipe cannot be read.
            registry.errors.RegistryError: it is refused, or cannot be written down.
        """
        try:
            return self._publish(job, candidate, name)
        except NameTaken:
            return self._publish(job, candidate, f"{name}-{_word(candidate['name'])}")

    def prepare(self, job: Job, candidate: Candidate, name: str) -> Target | None:
        """Return what to build and load for a candidate without a name of its own yet.

        None where it needs a version of its own. Adapters of a recipe that the job made are
        registered beside `name`.

        Raises:
            as `publish`.
        """
        serve = candidate["serve"]
        match serve["kind"]:
            case "base":
                return Bare(self.served_base)
            case "recipe":
                return Planned(self._recipe(job, serve, name))
            case "nothing":
                raise NotServable(str(serve["reason"]))
        return None

    def _publish(self, job: Job, candidate: Candidate, name: str) -> Published:
        serve = candidate["serve"]
        if serve["kind"] == "adapter":
            digest, model = self._register(job, self._folder(job, serve["folder"]), name)
            return Published(model, Stored(digest))
        target = self.prepare(job, candidate, name)
        if not isinstance(target, Planned):
            return Published(self.served_base, Bare(self.served_base))
        recipe = target.recipe
        version = self.registry.compositions.add(
            name, expression=_expression(job, candidate), recipe_text=recipe.canonical(),
            recipe_digest=recipe.digest(), base=recipe.base, ingredients=recipe.lineage,
            actor=job.created_by,
        )  # fmt: skip
        return Published(f"{version.name}@{version.number}", target)

    def _recipe(self, job: Job, serve: Mapping[str, Any], name: str) -> Recipe:
        """Return a candidate's recipe, once every adapter in it is registered."""
        for folder in serve["adapters"].values():
            path = self._folder(job, folder)
            self._register(job, path, f"{name}-{_word(path.name)}")
        return Recipe.parse(serve["recipe"])

    def _register(self, job: Job, folder: Path, name: str) -> tuple[str, str]:
        made = self.registry.adapters.register(
            folder, name=name, base=job.base, source=f"job:{job.id}", actor=job.created_by
        ).version
        return made.digest, f"{made.name}@{made.number}"

    def _folder(self, job: Job, below: str) -> Path:
        return self.storage.folder(job.id) / below


def _expression(job: Job, candidate: Candidate) -> str:
    """Return what people read of a recipe that no expression can say: coefficients by module."""
    return f"{candidate['name']}({', '.join(candidate['members'])}) of {job.id}"


def _word(name: str) -> str:
    return name.replace("_", "-")
