"""Shared bases of several matrices."""

import pytest
import torch
from torch import Tensor

from merge.tucker import shared_bases


def kept(stack: Tensor, u: Tensor, v: Tensor) -> float:
    """Return Σ |Uᵀ X V|²."""
    return float((u.mT @ stack @ v).square().sum())


def some_stack() -> Tensor:
    """Return four matrices (12, 9)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 12, 9, generator=generator, dtype=torch.float64)


def test_bases_are_orthonormal() -> None:
    """Both bases have orthonormal columns, as many as requested or as exist."""
    for rank in (1, 4, 10, 40):
        u, v = shared_bases(some_stack(), rank)

        assert (12, min(rank, 12)) == tuple(u.shape)
        assert (9, min(rank, 9)) == tuple(v.shape)
        torch.testing.assert_close(u.mT @ u, torch.eye(u.shape[1], dtype=u.dtype))
        torch.testing.assert_close(v.mT @ v, torch.eye(v.shape[1], dtype=v.dtype))


def test_iteration_keeps_more_than_the_two_svds() -> None:
    """The iteration improves on its starting point, the leading vectors of each unfolding."""
    stack = some_stack()
    u = torch.linalg.svd(torch.cat(list(stack), dim=1))[0][:, :3]
    v = torch.linalg.svd(torch.cat(list(stack)))[2][:3].mT

    assert kept(stack, *shared_bases(stack, 3)) > kept(stack, u, v) * (1 + 1e-6)


def alternated(stack: Tensor, rank: int) -> float:
    """Return what the authors of CtM keep: eigenvectors in turn, to a change of error of 1e-6."""

    def vectors(x: Tensor) -> Tensor:
        beside = x.transpose(0, 1).flatten(1)
        leading: Tensor = torch.linalg.eigh(beside @ beside.mT)[1].flip(1)[:, :rank]
        return leading

    u, total, errors = vectors(stack), float(stack.square().sum()), [1.0]
    while len(errors) < 3 or errors[-2] - errors[-1] >= 1e-6:
        v = vectors(stack.mT @ u)
        u = vectors(stack @ v)
        errors.append((1.0 - kept(stack, u, v) / total) ** 0.5)
    return kept(stack, u, v)


@pytest.mark.parametrize("decay", [1.0, 0.8])
def test_the_iteration_ends_where_the_authors_end(decay: float) -> None:
    """The bases keep as much as those of the authors' iteration at its tolerance, or more."""
    generator = torch.Generator().manual_seed(0)
    size = decay ** torch.arange(16, dtype=torch.float64)
    u = torch.randn(5, 80, 16, generator=generator, dtype=torch.float64) * size
    stack = u @ torch.randn(5, 16, 80, generator=generator, dtype=torch.float64)

    assert kept(stack, *shared_bases(stack, 16)) > (1 - 1e-6) * alternated(stack, 16)


def test_matrices_in_one_subspace_lose_nothing() -> None:
    """Where bases of the given rank span all matrices, all energy is kept."""
    generator = torch.Generator().manual_seed(1)
    u, v = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (12, 9))
    stack = u @ torch.randn(4, 3, 3, generator=generator, dtype=torch.float64) @ v.mT

    assert abs(kept(stack, *shared_bases(stack, 3)) / float(stack.square().sum()) - 1) < 1e-12


def test_one_matrix_gives_its_singular_vectors() -> None:
    """For one matrix the bases are those of its truncated SVD."""
    x = some_stack()[:1]
    values = torch.linalg.svdvals(x[0])

    assert abs(kept(x, *shared_bases(x, 3)) - float(values[:3].square().sum())) < 1e-9


def test_nothing_has_bases_too() -> None:
    """Zero matrices have orthonormal bases without NaN."""
    u, v = shared_bases(torch.zeros(2, 5, 4, dtype=torch.float64), 2)

    assert torch.isfinite(u).all()
    assert torch.isfinite(v).all()
