"""What a merge will take and give, from its recipe and the shapes of its ingredients alone.

Covered: the result's rank and bytes, and the estimate of memory and seconds that limits use. Not
covered: reading a tensor.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from merge.methods import find_method
from merge.recipe import OUTPUT_DTYPES, ModuleShape, Recipe

_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True, slots=True)
class Forecast:
    """A merge before it is built."""

    rank: int  # the largest of any module; an upper bound where the option `energy` decides
    nbytes: int  # of the result's tensors
    memory_bytes: int  # of the merge, at most
    seconds: float  # of the merge, at least


def forecast(
    recipe: Recipe, modules: Mapping[str, Mapping[str, ModuleShape]], *, threads: int
) -> Forecast:
    """Return the forecast of a recipe.

    Args:
        recipe: from `plan` or `Recipe.parse`.
        modules: of each ingredient, by its digest.
        threads: of the merge.

    Raises:
        RecipeInvalid: this version of weft does not have the recipe's method.
    """
    method, options = find_method(recipe.method), dict(recipe.options)
    stacks: dict[str, list[ModuleShape]] = {}
    for item in recipe.ingredients:
        for name, shape in modules[item.digest].items():
            if item.weight_in(name) != 0.0:
                stacks.setdefault(name, []).append(shape)
    shapes = [
        ([shape.rank for shape in stack], stack[0].d_in, stack[0].d_out)
        for stack in stacks.values()
    ]
    outputs = [(method.result_rank(ranks, options), d_in + d_out) for ranks, d_in, d_out in shapes]
    estimate = method.estimate(shapes, options, threads=threads)
    number = _BYTES[OUTPUT_DTYPES[recipe.dtype]]
    return Forecast(
        rank=max((rank for rank, _ in outputs), default=0),
        nbytes=number * sum(rank * widths for rank, widths in outputs),
        memory_bytes=estimate.nbytes,
        seconds=estimate.seconds,
    )
