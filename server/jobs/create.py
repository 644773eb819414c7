"""Validate a job request and enqueue it: options, pool, recipe, name.

Everything but the content of the files is checked before the job is queued. Blocking: call it off
the event loop.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from merge.adaptive.options import Options
from merge.recipe import Recipe
from registry.callers import Caller
from registry.errors import NameTaken, UnknownBase
from registry.jobs.types import Job
from registry.references import check_name
from server.compose.expression import Expression, parse_model
from server.compose.resolve import Resolver
from server.errors import RequestInvalid
from server.jobs.finish import BEST, NONE
from server.jobs.pools import PoolEntry, choose
from server.jobs.storage import new_id
from server.served_bases import ServedBase

# The candidates besides the method's own: `merge.adaptive.controls`.
CONTROLS = (
    "base", "fresh_lora", "fresh_lora_dropout", "fresh_lora_retuned", "best_single", "average",
)  # fmt: skip
MAX_SUFFIX = 64
_PREFIX = "ft-"
_SHOWN_OF_ID = 8


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A request for a job.

    Attributes:
        training_file: the id of a file of examples.
        base: a served base, by either of its names; None: that of `recipe`, or the first one.
        validation_file: the id of another, to measure on; without it the first is split.
        options: `merge.adaptive.options.Options` by name; `recipe` is an expression.
        pool: a filter, or references; None means every adapter, or those of the recipe.
        serve: the candidate to publish: `best`, `none`, or a name.
        name: the name of the result; None makes one up.
        suffix: a part of a name that is made up.
        seed: overrides the seed in the options.
        metadata: stored with the job, and not interpreted.
    """

    training_file: str
    base: str | None = None
    validation_file: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    pool: str | Sequence[str] | None = None
    serve: str = BEST
    name: str | None = None
    suffix: str | None = None
    seed: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def create_job(resolver: Resolver, request: JobRequest, caller: Caller) -> Job:
    """Validate a request and queue its job.

    Raises:
        OptionsInvalid, RequestInvalid: an option or a field is wrong; the message names it.
        PoolInvalid, PoolEmpty, and what `pools.choose` raises: the pool cannot be used.
        registry.errors.RegistryError: a name or a file cannot be used, or the database fails.
    """
    registry = resolver.registry
    options_by_name = dict(request.options)
    expression = options_by_name.pop("recipe", None)
    if request.seed is not None:
        options_by_name["seed"] = request.seed
    options = Options.parse(options_by_name)
    if request.validation_file is not None:
        options.check_validation()
    asked = None if request.base is None else _base(resolver, request.base)
    base = (asked or resolver.bases.default).name
    named: tuple[PoolEntry, ...] = ()
    if expression is not None:
        recipe, references = _recipe(resolver, expression, asked, caller)
        options, base = replace(options, recipe=recipe.canonical()), recipe.base
        named = choose(registry, references, base=base, caller=caller)
    _check_serve(request.serve, options)
    pool = request.pool if request.pool is not None else ("" if expression is None else [])
    pooled = () if pool == [] and named else choose(registry, pool, base=base, caller=caller)
    members = {member.digest: member for member in (*pooled, *named)}
    job_id = new_id("ftjob")
    document = {
        "options": options.to_json(),
        "pool": pool if isinstance(pool, str) else list(pool),
        "recipe": expression,
        "members": [member.to_json() for member in members.values()],
        "serve": request.serve,
        "suffix": request.suffix,
        "metadata": dict(request.metadata),
    }
    return registry.jobs.create(
        id=job_id, base=base, request=document, training_file=request.training_file,
        validation_file=request.validation_file, name=_name(resolver, request, job_id, caller),
        seed=options.seed, actor=caller.name, caller=caller,
    )  # fmt: skip


def _base(resolver: Resolver, name: str) -> ServedBase:
    base = resolver.bases.called(name)
    if base is None:
        raise RequestInvalid(f"base must be {resolver.bases}, not {name!r:.80}", "base")
    return base


def _recipe(
    resolver: Resolver, expression: object, base: ServedBase | None, caller: Caller
) -> tuple[Recipe, list[str]]:
    """Return the recipe of an expression, resolved now, and its ingredients' references.

    A recipe's text is refused: it could name digests that the caller may not see.
    """
    parsed = parse_model(expression) if isinstance(expression, str) else None
    if not isinstance(parsed, Expression):
        raise RequestInvalid(
            f"recipe must be an expression such as lego(a, b), not {expression!r:.80}", "recipe"
        )
    recipe = resolver.plan(parsed, base=base, caller=caller)
    return recipe, [str(term.reference) for term in parsed.terms]


def _check_serve(serve: str, options: Options) -> None:
    own = options.method
    known = (BEST, NONE, own, *(CONTROLS if options.reality_check else ("base",)))
    if serve not in known and not re.fullmatch(rf"{own}_k[1-9][0-9]*", serve):
        raise RequestInvalid(f"serve must be one of {', '.join(known)}, not {serve!r:.80}", "serve")


def _name(resolver: Resolver, request: JobRequest, job_id: str, caller: Caller) -> str:
    """Return the name of the result: in the caller's namespace, and not a base's name."""
    if request.name is not None:
        check_name(request.name)
        caller.need_name(request.name)
        try:
            resolver.registry.bases.get(request.name)
        except UnknownBase:
            return request.name
        raise NameTaken(request.name, "base")
    namespace = "" if caller.namespace is None else f"{caller.namespace}/"
    parts = ["" if request.suffix is None else _slug(request.suffix), job_id[-_SHOWN_OF_ID:]]
    return f"{namespace}{_PREFIX}{'-'.join(filter(None, parts))}"


def _slug(suffix: str) -> str:
    """Return a suffix with each run of other characters replaced by a hyphen."""
    slug = re.sub(r"[^a-z0-9._-]+", "-", suffix.lower()).strip("-._")
    if not slug or len(suffix) > MAX_SUFFIX:
        raise RequestInvalid(
            f"suffix must have 1 to {MAX_SUFFIX} characters, at least one a letter or digit",
            "suffix",
        )
    return slug
