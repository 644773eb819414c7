"""The gated layer and its coefficients, over the whole design space and against dense sums."""

import itertools
from pathlib import Path
from typing import get_args

import pytest
import torch

from merge.adaptive.model.coefficients import Coefficients
from merge.adaptive.model.hooks import Updates, attached
from merge.adaptive.model.memory import MemoryTooSmall, Sizes, check_memory, estimate, least_ranks
from merge.adaptive.model.stacked import GatedLayer, stack
from merge.adaptive.options import Activation, Design, Granularity, Initial, OptionsInvalid
from merge.errors import IncompatibleAdapters
from merge.factors import Factors
from tests.merge.adaptive.small import gated, random_adapters
from tests.merge.llama import logits, tiny_llama

DESIGNS = [
    Design(granularity, activation, initial, seed=3)
    for granularity, activation, initial in itertools.product(
        get_args(Granularity), get_args(Activation), get_args(Initial)
    )
    if activation != "square" or initial not in ("zero", "one_hot")
]


@pytest.mark.parametrize(
    "design", DESIGNS, ids=lambda d: "-".join((d.granularity, d.activation, d.initial))
)
def test_gated_adapters_are_the_weighted_sum(design: Design, tmp_path: Path) -> None:
    """In every design the attached update is Σ gate · s B A, and the gradient reaches every
    coefficient in use."""
    adapters = random_adapters(tmp_path)
    updates = gated(adapters, design)
    gates = {name: g.detach() for name, g in updates.coefficients.gates().items()}
    model, summed = tiny_llama(), tiny_llama()
    with torch.no_grad():
        for name, layer in updates.gated().items():
            update = (layer.b.double() * gates[name].double()) @ layer.a.double()
            summed.get_submodule(name).weight += update.float()
    with attached(model, updates):
        found = logits(model)
        model(torch.tensor([[1, 5, 9]])).logits.square().sum().backward()

    torch.testing.assert_close(found, logits(summed), rtol=1e-4, atol=1e-4)
    assert updates.coefficients.raw.grad is not None
    assert bool(updates.coefficients.raw.grad.abs().sum() > 0)


@pytest.mark.parametrize(
    ("granularity", "shape"),
    [("adapter", (1, 3)), ("layer", (2, 3)), ("sublayer", (4, 3)), ("module", (5, 3))],
)
def test_granularity_is_how_many_numbers_there_are(
    granularity: Granularity, shape: tuple[int, int], tmp_path: Path
) -> None:
    """There is one row per group of modules, and the modules of a group share its coefficients."""
    updates = gated(random_adapters(tmp_path), Design(granularity, initial="normal", seed=1))
    table = updates.coefficients.table()

    assert shape == tuple(updates.coefficients.raw.shape)
    assert 5 == len(table)
    # The second adapter has only two modules; its coefficient is 0 in the others.
    assert 2 == sum(row[1] != 0.0 for row in table.values())
    assert shape[0] == len({(row[0], row[2]) for row in table.values()})


def test_single_ranks_have_numbers_of_their_own(tmp_path: Path) -> None:
    """Granularity `rank` has one number per rank of each module, and no table of members."""
    coefficients = gated(random_adapters(tmp_path), Design("rank")).coefficients

    assert (1, 5 * (4 + 6) + 2 * 2) == tuple(coefficients.raw.shape)
    with pytest.raises(OptionsInvalid, match="a coefficient per rank"):
        coefficients.table()


@pytest.mark.parametrize("granularity", ["module", "rank"])
def test_softmax_sums_to_one(granularity: Granularity, tmp_path: Path) -> None:
    """Softmax coefficients sum to 1 over the members of a group, or over the ranks of a module."""
    design = Design(granularity, "softmax", "normal", seed=2)
    coefficients = gated(random_adapters(tmp_path), design).coefficients

    if granularity == "module":
        torch.testing.assert_close(coefficients.values().sum(1), torch.ones(5))
    else:
        for gates in coefficients.gates().values():
            assert float(gates.detach().sum()) == pytest.approx(1.0, abs=1e-6)


def test_activations_and_beginnings() -> None:
    """LeakyReLU has slope 0.01 below 0, and the initial values are the paper's."""
    _, layout = stack([{"m": Factors(torch.ones(2, 3), torch.ones(4, 2))}] * 4)

    def begun(initial: Initial, activation: Activation = "linear") -> list[float]:
        design = Design("module", activation, initial, seed=2)
        return [float(v) for v in Coefficients(layout, design).values().detach().flatten()]

    assert [0.0] * 4 == begun("zero")
    assert [0.5] * 4 == begun("root_k")
    assert [1.0, 0.0, 0.0, 0.0] == begun("one_hot")
    assert all(0.0 <= value < 1.0 for value in begun("uniform"))
    raw, leaky = begun("normal"), begun("normal", "leaky_relu")
    assert min(raw) < 0.0
    assert leaky == pytest.approx([v if v > 0 else 0.01 * v for v in raw])


def test_embeddings_are_read_by_token() -> None:
    """A module that reads token ids looks up the columns of `a`."""
    member = Factors(torch.randn(2, 10), torch.randn(4, 2), 0.5)
    layer = GatedLayer([member], embedding=True)
    layer.gates = torch.tensor([2.0, -1.0])
    tokens = torch.tensor([[3, 7], [0, 9]])

    gates = torch.tensor([2.0, -1.0])
    expected = (0.5 * member.b * gates) @ member.a  # (4, 10)
    torch.testing.assert_close(layer(tokens), expected.T[tokens])


def test_widths_that_differ_are_refused() -> None:
    """Adapters whose shapes of a module differ are refused, and the message names the module."""
    narrow = Factors(torch.ones(1, 3), torch.ones(4, 1))
    wide = Factors(torch.ones(1, 5), torch.ones(4, 1))
    with pytest.raises(IncompatibleAdapters, match=r"m: \(d_out, d_in\) differ"):
        stack([{"m": narrow}, {"m": wide}])


def test_a_missing_module_leaves_no_hook(tmp_path: Path) -> None:
    """Attaching to a base that lacks a module fails and leaves no hooks on it."""
    adapter = {"model.nowhere": Factors(torch.ones(1, 3), torch.ones(4, 1))}
    layers, _ = stack([*random_adapters(tmp_path), adapter])
    model = tiny_llama()
    with pytest.raises(AttributeError), attached(model, Updates(layers)):
        pass

    assert not any(module._forward_hooks for module in model.modules())
    assert not model._forward_pre_hooks


def sizes(**more: object) -> Sizes:
    """Return the sizes of a small job."""
    plain: dict[str, object] = {
        "base_bytes": 10**9, "layers": 4, "width": 64, "vocabulary": 1000, "step": 512,
        "measure": 1024, "answers": 0.5, "modules": {"m": (64, 64)}, "fresh_rank": 0,
        "ranks": {"m": 80},
    }  # fmt: skip
    return Sizes(**(plain | more))  # type: ignore[arg-type]


def test_memory_grows_with_the_total_rank_alone() -> None:
    """The memory estimate depends on the summed ranks, not on the number of adapters, and grows
    with every size."""
    assert least_ranks([{"m": 8}] * 10, 10, {}) == least_ranks([{"m": 40}] * 2, 2, {}) == {"m": 80}
    for more in (
        {"ranks": {"m": 160}}, {"base_bytes": 2 * 10**9}, {"step": 1024}, {"answers": 0.6},
    ):  # fmt: skip
        assert estimate(sizes(**more)) > estimate(sizes())


def test_the_smallest_members_count() -> None:
    """The least ranks are those of the k smallest members, because the k chosen are unknown."""
    members = [{"m": 4}, {"m": 64}, {"m": 4, "n": 8}]

    assert {"m": 12, "n": 4} == least_ranks(members, 2, {"m": 4, "n": 4})


def test_too_little_memory_says_the_numbers() -> None:
    """The refusal states the memory needed and free, and advises a smaller k."""
    needed = check_memory(sizes(), 2**40)
    with pytest.raises(MemoryTooSmall, match="GiB are free: choose a smaller k") as caught:
        check_memory(sizes(), needed - 1)

    assert (needed, needed - 1) == (caught.value.needed, caught.value.free)
