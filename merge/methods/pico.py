"""`pico`: output directions that many updates share are damped before the merge."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from merge.basis import Coordinates, coordinates
from merge.factors import Merged, Stack
from merge.methods.method import merge_method
from merge.methods.options import Rank
from merge.methods.tsv import orthonormal_sum

Rule = Literal["sum", "tsv"]


@merge_method(
    "pico",
    paper="arXiv:2604.16826",
    title="Pico: output directions that many updates share are damped, then the sum at their mean "
    "norm",
    differs="the paper has one rank and no weights: here b holds weight and scale; its third rule, "
    "TIES, is left out, since entries take a dense update; the authors' tool for folders restores "
    "every adapter's own norm, the paper the merge's; canonical is weft's own; the result is "
    "truncated",
    exempt={
        "copies": "copies share all their directions, so the strong ones are damped, too",
        "reparameterisation": "what is shared is measured on b, which depends on how an update is "
        "factored; canonical=true removes the dependence",
    },
    auto_rank="sum",
    copies="mean",
)
def pico(
    stack: Stack,
    *,
    rank: Rank,
    rule: Rule = "sum",
    canonical: bool = False,
    rescale: bool = True,
) -> Merged:
    """Return merge(S Δ_1, …, S Δ_T) (arXiv 2604.16826, §4), truncated to rank k.

    S = I + U diag(damp - 1) Uᵀ, with U and sigma of the SVD of [b_1 … b_T], weights and scales in
    b, and damp_j = 1 / (1 + (T - 1) sigma_j² / Σ sigma²): a direction that holds everything that T
    members write is damped to 1/T. The merge is brought to the mean norm of the weighted updates.

    Args:
        stack: the members; a negative weight merges the negated update.
        rank: the largest rank of the result.
        rule: what merges the calibrated updates: their sum, or the steps of `tsv`.
        canonical: whether each b is first brought to UΣ of its update. That is what a trained b is
            up to a rotation, as long as its a is near the initial one, whose rows are nearly
            orthogonal and of one length.
        rescale: whether the result is brought to the mean norm of the weighted updates, or left as
            damped.
    """
    at = coordinates(stack)
    calibration = _calibration(at, canonical=canonical)
    calibrated = replace(at, heads=[calibration @ head for head in at.heads])
    if rule == "tsv":
        core = orthonormal_sum(calibrated)
    else:
        core = torch.cat(list(calibrated.heads), 1) @ torch.cat(list(at.tails))
    if rescale:
        core = at.at_mean_norm(core)
    return at.lift(core, rank=min(rank, stack.total_rank))


def _calibration(at: Coordinates, *, canonical: bool) -> Tensor:
    """Return S in the left basis, (p, p)."""
    if canonical:
        written = [u * sigma for u, sigma, _ in at.svd()]
    else:  # the heads hold the lengths of the rows of a
        written = [head / length for head, length in zip(at.heads, at.lengths, strict=True)]
    b = torch.cat(written, 1)  # (p, R)
    energies, u = torch.linalg.eigh(b @ b.mT)
    # Shares of the sum, which is zero for zero adapters alone.
    shares = energies.clamp(min=0.0) / (float(energies.clamp(min=0.0).sum()) or 1.0)
    calibration: Tensor = (u / (1.0 + (len(at.heads) - 1) * shares)) @ u.mT
    return calibration
