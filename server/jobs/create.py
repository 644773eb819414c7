"""From a wish to a queued job: options, pool, files and name checked and written down once.

Whoever asks learns of all that can be known beforehand; what is in the files is the job's to tell.
Blocking: call it off the event loop.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from merge.adaptive.options import Options
from registry.callers import Caller
from registry.errors import NameTaken, UnknownBase
from registry.jobs.types import Job
from registry.references import check_name
from server.compose.expression import Expression, parse_model
from server.compose.resolve import Resolver
from server.errors import RequestInvalid
from server.jobs.finish import BEST, NONE
from server.jobs.pools import Chosen, choose
from server.jobs.storage import new_id

# What can be served besides the method's own: `merge.adaptive.controls`.
CONTROLS = (
    "base", "fresh_lora", "fresh_lora_dropout", "fresh_lora_retuned", "best_single", "average",
)  # fmt: skip
MAX_SUFFIX = 64
_PREFIX = "ft-"
_SHOWN_OF_ID = 8


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asks for.

    Attributes:
        training_file: id of a file of examples.
        validation_file: of another one; without it a fifth of the first is held out.
        options: of the learning, by name; `recipe` is an expression.
        pool: a filter, or references; None for every adapter, or those of the recipe.
        serve: `best`, `none`, or the name of a candidate.
        name: of the result.
        suffix: goes into a name that is made up.
        seed: goes before the one in the options.
        metadata: kept for whoever asked.
    """

    training_file: str
    validation_file: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    pool: str | Sequence[str] | None = None
    serve: str = BEST
    name: str | None = None
    suffix: str | None = None
    seed: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def create_job(resolver: Resolver, wish: Wish, caller: Caller) -> Job:
    """Queue the job that somebody wishes for.

    Raises:
        OptionsInvalid, RequestInvalid: naming what is wrong.
        PoolInvalid, PoolEmpty, and what `pools.choose` raises: there is no such pool.
        registry.errors.RegistryError: a name, a file, or the database.
    """
    registry = resolver.registry
    given = dict(wish.options)
    expression = given.pop("recipe", None)
    if wish.seed is not None:
        given["seed"] = wish.seed
    options = Options.parse(given)
    named: tuple[Chosen, ...] = ()
    if expression is not None:
        options, named = _with_recipe(resolver, options, expression, caller)
    _check_serve(wish.serve, options)
    pool = wish.pool if wish.pool is not None else ("" if expression is None else [])
    found = () if pool == [] and named else _pool(resolver, pool, caller)
    members = {member.digest: member for member in (*found, *named)}
    job_id = new_id("ftjob")
    request = {
        "options": options.to_json(),
        "pool": pool if isinstance(pool, str) else list(pool),
        "recipe": expression,
        "members": [member.to_json() for member in members.values()],
        "serve": wish.serve,
        "suffix": wish.suffix,
        "metadata": dict(wish.metadata),
    }
    return registry.jobs.create(
        id=job_id, base=resolver.base, request=request, training_file=wish.training_file,
        validation_file=wish.validation_file, name=_name(resolver, wish, job_id, caller),
        seed=options.seed, actor=caller.name, caller=caller,
    )  # fmt: skip


def _pool(resolver: Resolver, pool: str | Sequence[str], caller: Caller) -> tuple[Chosen, ...]:
    return choose(resolver.registry, pool, base=resolver.base, caller=caller)


def _with_recipe(
    resolver: Resolver, options: Options, expression: object, caller: Caller
) -> tuple[Options, tuple[Chosen, ...]]:
    """Return the options with the recipe that an expression means now, and its ingredients.

    An expression and not a recipe's text, which could name digests that the caller may not know.
    """
    parsed = parse_model(expression) if isinstance(expression, str) else None
    if not isinstance(parsed, Expression):
        raise RequestInvalid(
            f"recipe takes an expression such as lego(a, b), not {expression!r:.80}", "recipe"
        )
    recipe = resolver.plan(parsed, caller=caller)
    named = [str(term.reference) for term in parsed.terms]
    return replace(options, recipe=recipe.canonical()), _pool(resolver, named, caller)


def _check_serve(serve: str, options: Options) -> None:
    own = options.method
    known = (BEST, NONE, own, *(CONTROLS if options.reality_check else ("base",)))
    if serve not in known and not re.fullmatch(rf"{own}_k[1-9][0-9]*", serve):
        raise RequestInvalid(f"serve takes one of {', '.join(known)}, not {serve!r:.80}", "serve")


def _name(resolver: Resolver, wish: Wish, job_id: str, caller: Caller) -> str:
    """Return what the result will be called: in the caller's namespace, and never a base's name."""
    if wish.name is not None:
        check_name(wish.name)
        caller.need_name(wish.name)
        try:
            resolver.registry.bases.get(wish.name)
        except UnknownBase:
            return wish.name
        raise NameTaken(wish.name, "base")
    namespace = "" if caller.namespace is None else f"{caller.namespace}/"
    parts = ["" if wish.suffix is None else _slug(wish.suffix), job_id[-_SHOWN_OF_ID:]]
    return f"{namespace}{_PREFIX}{'-'.join(filter(None, parts))}"


def _slug(suffix: str) -> str:
    """Return what of a suffix can stand in a name."""
    found = re.sub(r"[^a-z0-9._-]+", "-", suffix.lower()).strip("-._")
    if not found or len(suffix) > MAX_SUFFIX:
        raise RequestInvalid(
            f"suffix takes up to {MAX_SUFFIX} characters, letters or digits among them", "suffix"
        )
    return found
