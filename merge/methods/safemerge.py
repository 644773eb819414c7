"""`safemerge`: tasks summed, with a safety adapter where a module leaves the safe subspace."""

import torch
from torch import Tensor

from merge.basis import coordinates
from merge.factors import Merged, Stack
from merge.linalg import truncated_sum
from merge.methods.method import merge_method
from merge.methods.options import Rank, Ratio, Share
from merge.methods.requirements import Requirements


@merge_method(
    "safemerge",
    paper="arXiv:2503.17239",
    title="SafeMERGE: the sum of the tasks, mixed with the last ingredient, a safety adapter, in "
    "modules that leave its subspace",
    differs="the safe subspace is that of the safety adapter's update, where the paper takes the "
    "difference between an aligned and an unaligned model; the task's update is the weighted sum "
    "of every ingredient but the last; an update of zero leaves the subspace; a single "
    "ingredient is copied; the result is truncated",
    exempt={
        "ingredient_order": "the last ingredient is the safety adapter, and the others are tasks",
        "copies": "copies of one adapter are T - 1 tasks, which add up, and a safety adapter",
    },
    requirements=Requirements(last_has_every_module=True),
    auto_rank="sum",
)
def safemerge(
    stack: Stack,
    *,
    rank: Rank,
    threshold: Share = 0.5,
    task_share: Share = 0.7,
    energy: Ratio | None = None,
) -> Merged:
    """Return the tasks' update W, or task_share · W + (1 - task_share) · S with the safety's S.

    The second where the cosine between W and C W is below the threshold, C = S Sᵀ / |S| (SafeMERGE,
    arXiv 2503.17239, §3, with S for the paper's V): W is (d_out, d_in), C (d_out, d_out). It is 1
    where W lies in one singular direction of S, and 0 where their columns are orthogonal.

    Args:
        stack: the tasks, and last the safety adapter; weights of any sign multiply updates.
        rank: the largest rank of the result.
        threshold: the cosine below which a module is mixed; 0 mixes none.
        task_share: the share of the tasks in a mixed module.
        energy: with it, the smallest rank that keeps this share of the exact result's energy.
    """
    weights = list(stack.weights)
    if len(weights) > 1:
        at = coordinates(stack)
        cores = dict(zip(at.order, at.cores, strict=True))  # by position in the stack
        safety = cores.pop(len(weights) - 1)
        mixed = safe_cosine(torch.stack([*cores.values()]).sum(0), safety) < threshold
        share = task_share if mixed else 1.0
        weights = [*(share * weight for weight in weights[:-1]), (1.0 - share) * weights[-1]]
    return truncated_sum(stack.members, weights, rank, energy)


def safe_cosine(task: Tensor, safety: Tensor) -> float:
    """Return the cosine between W and S Sᵀ W for two matrices of one shape; 0 if one is zero."""
    norms = float(task.norm()), float(safety.norm())
    if not min(norms) > 0.0:
        return 0.0
    task, safety = task / norms[0], safety / norms[1]
    projected = safety @ (safety.mT @ task)
    length = float(projected.norm())
    return float((task * projected).sum()) / length if length > 0.0 else 0.0
