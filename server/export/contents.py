"""What an export has: the files of a version or an artifact, and the facts of its card.

Blocking: call it off the event loop. Not covered: who may export (`admin.exports`), and files of an
artifact that were evicted (`artifacts.provide`).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from merge.peft_format import CONFIG_NAME, WEIGHTS_NAME
from registry.admission.card import CARD_NAME
from registry.admission.licences import joined
from registry.callers import Caller
from registry.paging import MAX_PAGE
from registry.references import Reference
from registry.service import Registry
from registry.types import Artifact, RecipeRecord
from server.compose.written import expression_of, reference_of
from server.export.card import CardFacts, MadeBy, Measurement, card_of
from server.export.tar import Member, text_member


def version_card(registry: Registry, name: str, number: int, caller: Caller) -> CardFacts:
    """Return the facts of an adapter's version.

    Raises:
        UnknownReference: the version does not exist, or `caller` does not see it.
        VersionRetired, VersionQuarantined: it is out of use, or something that it was made of is.
        CompositionDenied: a policy denies the merge that it is.
    """
    reference = Reference(name=name, version=number)
    registry.versions.resolve(reference, caller=caller)  # which refuses what is out of use
    version = registry.catalogue.adapter_version(reference, caller=caller)
    lineage = registry.compositions.lineage(version.digest, limit=1, caller=caller)
    facts = {
        "rank": str(version.rank),
        "modules": str(version.module_count),
        "dtype": ", ".join(version.dtypes),
        "norm of the update": f"{version.norm:.4g}",
        "source": version.source or "not stated",
        "registered": f"{version.created_at:%Y-%m-%d}",
    }
    return CardFacts(
        f"{name}@{number}", version.digest, version.base, version.licence, facts,
        made_by=_makers(registry, lineage.made_by),
        evaluations=[*_evaluations(registry, [f"{name}@{number}"], caller)],
        text=version.card,
    )  # fmt: skip


def artifact_card(registry: Registry, artifact: Artifact, caller: Caller) -> CardFacts:
    """Return the facts of an artifact that `caller` sees."""
    made_by = _makers(registry, artifact.recipes)
    compositions = [name for recipe in artifact.recipes for name in recipe.compositions]
    licences = [licence for recipe in made_by for _, _, licence in recipe.ingredients]
    facts = {"merged": f"{artifact.created_at:%Y-%m-%d}"}
    return CardFacts(
        f"merge {artifact.digest[:12]}", artifact.digest, artifact.recipes[0].base,
        joined(licences), facts, made_by=made_by,
        evaluations=[*_evaluations(registry, compositions, caller)],
    )  # fmt: skip


def members_of(folder: Path, facts: CardFacts) -> list[Member]:
    """Return config, weights and card; the files are open, so a removal does not reach them.

    Raises:
        OSError: a file is missing or cannot be read.
    """
    with ExitStack() as opened:
        members = []
        for name in (CONFIG_NAME, WEIGHTS_NAME):
            path = folder / name
            file = opened.enter_context(path.open("rb"))
            members.append(Member(name, path.stat().st_size, file))
        opened.pop_all()
    return [*members, text_member(CARD_NAME, card_of(facts))]


def _makers(registry: Registry, recipes: Sequence[RecipeRecord]) -> list[MadeBy]:
    digests = {item.digest for recipe in recipes for item in recipe.ingredients}
    licences = registry.compositions.licences(digests)
    made_by = []
    for recipe in recipes:
        terms = [
            (reference_of(item.digest, item.versions), item.weight, licences.get(item.digest))
            for item in recipe.ingredients
        ]
        expression = expression_of(recipe.text, [(weight, name) for name, weight, _ in terms])
        made_by.append(MadeBy(recipe.digest, expression, terms, recipe.compositions))
    return made_by


def _evaluations(
    registry: Registry, references: Iterable[str], caller: Caller
) -> Iterator[Measurement]:
    """Yield the newest evaluations of each of these versions, at most a page of each."""
    for reference in references:
        name, _, number = reference.rpartition("@")
        page = registry.evaluations.page(name, int(number), limit=MAX_PAGE, caller=caller)
        for e in page.items:
            yield Measurement(reference, e.dataset, e.metric, e.value, e.n, e.measured_at)
