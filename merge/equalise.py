"""`equalise=norm`: every ingredient's update is brought to one norm before its weight.

Adapters of unequal norm are not merged evenly by equal weights: the larger one dominates. The one
norm is the mean of the ingredients', so that a single ingredient stays as it is.
Covered: norms of whole adapters and the factors that equalise them. Not covered: their use
(`merge_run`).
"""

import math
from collections.abc import Mapping

import torch

from merge.factors import Factors, Members
from merge.linalg import update_products
from merge.peft_format import AdapterFolder
from merge.peft_io import FolderReader

OPTION, NORM = "equalise", "norm"


def equalising(norms: Mapping[int, float]) -> dict[int, float]:
    """Return the factor of each ingredient; 1 for an update that is zero, or not finite."""
    sound = {place: norm for place, norm in norms.items() if 0.0 < norm < math.inf}
    if not sound:
        return {}
    mean = math.fsum(sound.values()) / len(sound)
    return {place: mean / norm for place, norm in sound.items()}


def norm_of(folder: AdapterFolder, reader: FolderReader) -> float:
    """Return the Frobenius norm of an adapter's whole update; it takes one module's memory.

    Raises:
        FormatError, OSError: the files cannot be read.
    """
    squares = []
    for module in folder.modules.values():
        factors = Factors(torch.empty(module.a.shape), torch.empty(module.b.shape), module.scale)
        reader.read_into(module, factors.a, factors.b)
        members = Members.of([factors])
        squares.append(float(update_products(members, members.grams)[0, 0]))
    total = math.fsum(squares)
    return math.sqrt(total) if total > 0.0 else total
