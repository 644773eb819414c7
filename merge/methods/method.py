"""The declaration of merge methods, their registry, and the check of their options.

A method is one pure function of one module, `(stack, *, options…) -> Merged`, under a decorator
that names its paper. Its keyword-only signature is its option schema. To add one: write its file
beside this one and import it in `merge/methods/__init__.py`.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, TypeVar, get_type_hints

from merge.errors import MethodDefinitionError, RecipeInvalid, did_you_mean
from merge.factors import Merged, Stack
from merge.methods.arguments import documented_arguments
from merge.methods.cost import Estimate, Shape, Work, estimate
from merge.methods.options import AUTO, EQUALISE, SCALE, Kind, Rank, Value, kind_of
from merge.methods.requirements import Requirements

MethodFunction = Callable[..., Merged]
GroupFunction = Callable[..., list[Merged]]
_Function = TypeVar("_Function", bound=MethodFunction)
AutoRank = Literal["sum", "largest"]
Copies = Literal["sum", "mean"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One option of a method: its name, what it accepts, its default, and what it means."""

    name: str
    kind: Kind
    default: Value
    meaning: str = ""

    def bind(self, method: str, raw: object) -> Value:
        """Return the checked value.

        Raises:
            RecipeInvalid: the value is not accepted; the message says which values are.
        """
        try:
            return self.kind.parse(raw)
        except (ValueError, OverflowError) as error:
            raise RecipeInvalid(
                f"{method}: option {self.name} takes {self.kind.accepts}, not {raw!r:.80}"
            ) from error


# Every method has this option; `merge_run` applies it to the method's result.
_SCALE = Parameter(
    "scale", SCALE, 1.0, "what multiplies the merged update; match: its ingredients' mean norm"
)
# Every method whose weights multiply updates has it; `merge_run` applies it to the weights. It is
# younger than recipes' digests, so that at its default it is not part of a recipe.
_EQUALISE = Parameter(
    "equalise",
    EQUALISE,
    None,
    "norm: each ingredient's update is brought to their mean norm before its weight",
)
_WEIGHTS = "weights"  # the law that a scaled weight scales the result


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeMethod:
    """A registered method. `revision` grows when its results change, and with it recipe digests."""

    name: str
    function: MethodFunction
    group: GroupFunction | None  # the same function of several modules at once, where it is quicker
    parameters: Mapping[str, Parameter]  # with the universal `scale`
    paper: str  # "arXiv:…", or another identifier of the formula's source
    title: str
    revision: int
    differs: str | None  # where it departs from its paper
    exempt: Mapping[str, str]  # law of tests/laws -> why it does not hold
    requirements: Requirements  # on the members of a module
    auto_rank: AutoRank | None  # meaning of rank=auto; None: no rank option, ranks add up
    copies: Copies  # T copies give the adapter at weight 1/T (a sum) or at weight 1 (a mean)
    work: Work  # the kind of its work, for estimates
    random_prune: bool  # whether entries are kept at random; a law holds it unbiased

    def merge(self, stacks: Sequence[Stack], options: Mapping[str, Value]) -> Iterator[Merged]:
        """Yield the result of each module. Options are bound, without the universal ones."""
        if self.group is not None:
            yield from self.group(stacks, **options)
        else:
            yield from (self.function(stack, **options) for stack in stacks)

    def bind(self, raw: Mapping[str, object]) -> dict[str, Value]:
        """Return every option of the method, checked, with defaults filled in; rank may be "auto".

        `equalise` is left out where it is none.

        Raises:
            RecipeInvalid: an unknown option (with the valid ones), or a value not accepted.
        """
        for name in raw:
            if name not in self.parameters:
                raise RecipeInvalid(
                    f"{self.name} has no option {name!r:.80}{did_you_mean(name, self.parameters)}; "
                    f"it takes {', '.join(self.parameters)}"
                )
        bound = {
            name: parameter.bind(self.name, raw[name]) if name in raw else parameter.default
            for name, parameter in self.parameters.items()
        }
        if bound.get(_EQUALISE.name) is None:
            bound.pop(_EQUALISE.name, None)
        return bound

    def automatic_rank(self, ranks: Sequence[Sequence[int]]) -> int:
        """Return the rank that "auto" means for modules whose members have these ranks."""
        reduce = max if self.auto_rank == "largest" else sum
        return max(reduce(module) for module in ranks)

    def result_rank(self, ranks: Sequence[int], options: Mapping[str, Value]) -> int:
        """Return the rank k of the result for one module: min(rank, R), or R without the option.

        If the option `energy` is in use, it is an upper bound.
        """
        rank = options.get("rank")
        return min(rank, sum(ranks)) if isinstance(rank, int) else self.automatic_rank([ranks])

    def estimate(
        self,
        modules: Iterable[tuple[Sequence[int], int, int]],
        options: Mapping[str, Value],
        *,
        threads: int,
    ) -> Estimate:
        """Return what a merge takes, given each module's ranks, d_in and d_out.

        `threads` is the number of processes, each of which works on a module, or a group, at once.
        """
        shapes = (
            Shape(tuple(ranks), d_in, d_out, self.result_rank(ranks, options))
            for ranks, d_in, d_out in modules
        )
        return estimate(self.work, shapes, options, threads=threads, grouped=self.group is not None)


_methods: dict[str, MergeMethod] = {}
METHODS: Mapping[str, MergeMethod] = MappingProxyType(_methods)


def find_method(name: str) -> MergeMethod:
    """Return the method called `name`.

    Raises:
        RecipeInvalid: there is none; the message has near names and the list of all.
    """
    if name in METHODS:
        return METHODS[name]
    raise RecipeInvalid(
        f"unknown merge method {name!r:.80}{did_you_mean(name, METHODS)}; "
        f"the methods are {', '.join(sorted(METHODS))}"
    )


def merge_method(
    name: str,
    *,
    paper: str,
    title: str,
    revision: int = 1,
    differs: str | None = None,
    exempt: Mapping[str, str] | None = None,
    requirements: Requirements | None = None,
    auto_rank: AutoRank | None = None,
    copies: Copies = "sum",
    work: Work = "cores",
    random_prune: bool = False,
    group: GroupFunction | None = None,
) -> Callable[[_Function], _Function]:
    """Register the decorated function as a merge method and return it unchanged.

    `group` takes several stacks and the same options, and returns what the function returns of each
    stack, bit for bit.

    Raises:
        MethodDefinitionError: a name taken twice, or a signature that is not an option schema.
    """

    def register(function: _Function) -> _Function:
        if name in _methods:
            raise MethodDefinitionError(f"merge method {name!r} is registered twice")
        parameters = _parameters(name, function)
        if _WEIGHTS not in (exempt or {}):
            parameters[_EQUALISE.name] = _EQUALISE
        if "rank" in parameters and auto_rank is None:
            raise MethodDefinitionError(f"{name}: a rank option needs auto_rank, what auto means")
        if random_prune and not {"seed", "density"} <= parameters.keys():
            raise MethodDefinitionError(f"{name}: random_prune needs options seed and density")
        _methods[name] = MergeMethod(
            name=name,
            function=function,
            group=group,
            parameters=MappingProxyType(parameters),
            paper=paper,
            title=title,
            revision=revision,
            differs=differs,
            exempt=MappingProxyType(dict(exempt or {})),
            requirements=requirements or Requirements(),
            auto_rank=auto_rank,
            copies=copies,
            work=work,
            random_prune=random_prune,
        )
        return function

    return register


def _parameters(method: str, function: MethodFunction) -> dict[str, Parameter]:
    hints = get_type_hints(function, include_extras=True)
    first, *options = inspect.signature(function).parameters.values()
    if hints.get(first.name) is not Stack or hints.get("return") is not Merged:
        raise MethodDefinitionError(f"{method}: must be a function (stack: Stack, *, …) -> Merged")
    meanings = documented_arguments(function)
    own = [
        replace(
            _parameter(method, option, hints.get(option.name)),
            meaning=meanings.get(option.name, ""),
        )
        for option in options
    ]
    return {parameter.name: parameter for parameter in (*own, _SCALE)}


def _parameter(method: str, option: inspect.Parameter, annotation: object) -> Parameter:
    where = f"{method}: parameter {option.name}"
    kind = kind_of(annotation)
    if option.kind is not option.KEYWORD_ONLY or kind is None:
        raise MethodDefinitionError(
            f"{where}: must be keyword-only and annotated with a kind of merge.methods.options, "
            f"not {annotation!r}"
        )
    if option.name in (_SCALE.name, _EQUALISE.name):
        raise MethodDefinitionError(
            f"{where}: every method has this option already; rename the parameter"
        )
    if (option.name == "rank") != (annotation == Rank):
        raise MethodDefinitionError(f"{where}: the name rank and the kind Rank go together")
    if option.name == "rank":
        return Parameter(option.name, kind, AUTO)
    if option.default is option.empty:
        raise MethodDefinitionError(f"{where}: needs a default")
    return Parameter(option.name, kind, option.default)
