"""Publish a job's candidate: give it a name that requests can use.

An adapter that the job made becomes a version of an adapter, a recipe a version of a composition;
the base has its name already. Publishing again gives the same versions. Blocking: call it off the
event loop. Not covered: which candidate (`finish`), and who may ask (the routes).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from merge.recipe import Recipe
from registry.errors import NameTaken
from registry.jobs.types import Job
from registry.service import Registry
from server.compose.resolve import Bare, Planned, Stored, Target
from server.jobs.report import CandidateJson, RecipeServing
from server.jobs.storage import JobStorage
from server.served_bases import ServedBases


class NotServable(Exception):
    """A candidate that cannot be served; the message says why."""


@dataclass(frozen=True, slots=True)
class Published:
    """A published candidate: the name that requests use, and the target to load."""

    model: str
    target: Target


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes candidates of jobs."""

    registry: Registry
    storage: JobStorage
    bases: ServedBases

    def publish(self, job: Job, candidate: CandidateJson, name: str) -> Published:
        """Give a candidate the name, or one like it where another kind of entry has that name.

        Raises:
            NotServable: it has nothing to serve.
            merge.errors.RecipeInvalid: its recipe cannot be read.
            registry.errors.RegistryError: it is refused, or cannot be stored.
        """
        try:
            return self._publish(job, candidate, name)
        except NameTaken:
            return self._publish(job, candidate, f"{name}-{_word(candidate['name'])}")

    def prepare(self, job: Job, candidate: CandidateJson, name: str) -> Target | None:
        """Return the target to build and load for a candidate before it has a name.

        None for an adapter of the job, which must be registered first. Adapters of the job that a
        recipe needs are registered under names that begin with `name`.

        Raises:
            as `publish`.
        """
        serving = candidate["serve"]
        self.check_policies(job, candidate)
        if serving["kind"] == "nothing":
            raise NotServable(serving["reason"])
        if serving["kind"] == "recipe":
            return Planned(self._recipe(job, serving, name))
        return Bare(job.base) if serving["kind"] == "base" else None

    def check_policies(self, job: Job, candidate: CandidateJson) -> None:
        """Raise CompositionDenied if a policy keeps a candidate's members of the pool apart."""
        digests = {member["reference"]: member["digest"] for member in job.request["members"]}
        members = [name for name in candidate["members"] if name in digests]
        self.registry.access.policies.check({digests[name]: name for name in members})

    def _publish(self, job: Job, candidate: CandidateJson, name: str) -> Published:
        serving = candidate["serve"]
        self.check_policies(job, candidate)
        if serving["kind"] == "adapter":
            members = {entry["reference"]: entry["digest"] for entry in job.request["members"]}
            made_of = [members[text] for text in candidate["members"] if text in members]
            folder = self._folder(job, serving["folder"])
            digest, model = self._register(job, folder, name, made_of)
            return Published(model, Stored(digest, job.base))
        target = self.prepare(job, candidate, name)
        if not isinstance(target, Planned):
            return Published(self.bases[job.base].served_name, Bare(job.base))
        recipe = target.recipe
        version = self.registry.compositions.add(
            name, expression=_expression(job, candidate), recipe_text=recipe.canonical(),
            recipe_digest=recipe.digest(), base=recipe.base, ingredients=recipe.lineage,
            actor=job.created_by,
        )  # fmt: skip
        return Published(f"{version.name}@{version.number}", target)

    def _recipe(self, job: Job, serving: RecipeServing, name: str) -> Recipe:
        """Register the job's own adapters in a recipe, and return the recipe."""
        for folder in serving["adapters"].values():
            path = self._folder(job, folder)
            self._register(job, path, f"{name}-{_word(path.name)}")
        return Recipe.parse(serving["recipe"])

    def _register(
        self, job: Job, folder: Path, name: str, made_of: Sequence[str] = ()
    ) -> tuple[str, str]:
        version = self.registry.adapters.register(
            folder, name=name, base=job.base, source=f"job:{job.id}", made_of=made_of,
            actor=job.created_by,
        ).version  # fmt: skip
        return version.digest, f"{version.name}@{version.number}"

    def _folder(self, job: Job, below: str) -> Path:
        folder = self.storage.obtain(job.id)
        if job.status == "succeeded" and not folder.exists():
            raise NotServable(
                "the files of this job were removed (WEFT_JOB_FILES_DAYS): run the job again"
            )
        return folder / below


def _expression(job: Job, candidate: CandidateJson) -> str:
    """Return a text for people: no expression can say a recipe with coefficients by module."""
    return f"{candidate['name']}({', '.join(candidate['members'])}) of {job.id}"


def _word(name: str) -> str:
    return name.replace("_", "-")
