"""Many frozen adapters as one: per module their factors side by side, with a gate on each rank.

y = W₀x + B(g ⊙ Ax), where A stacks all members' rows, B their columns with the scales folded in,
and g holds one number per rank-1 component. Two products for any number of members; the memory of
the backward pass grows with the total rank alone. With one gate per member this is
Σ g_k s_k B_k A_k x of arXiv 2602.12323. Not covered: the values of the gates (`coefficients`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from merge.adaptive.model.hooks import Updates
from merge.errors import IncompatibleAdapters
from merge.factors import Factors
from merge.peft_format import AdapterFolder
from merge.peft_io import read_peft

Modules = Mapping[str, Factors]  # one adapter, by module


class OnDemand(Mapping[str, Factors]):
    """An adapter whose modules are made on access and not kept.

    Thirty adapters of an 8B base are ten gigabytes, which the stacked copy takes already.
    """

    def __init__(self, names: Mapping[str, object], make: Callable[[str], Factors]) -> None:
        self._names, self._make = names, make

    def __getitem__(self, name: str) -> Factors:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Layout(NamedTuple):
    """The member that owns each rank of each module, in the modules' order."""

    members: int
    owners: Mapping[str, Tensor]  # (R,) long each


class GatedLayer(nn.Module):
    """One module's members side by side. `gates` is set anew before each pass: (R,) float32."""

    a: Tensor
    b: Tensor

    def __init__(self, members: Sequence[Factors], *, embedding: bool = False) -> None:
        super().__init__()
        self.register_buffer("a", torch.cat([member.a for member in members]))
        # Scales are folded into b once, instead of a product in every pass.
        self.register_buffer("b", torch.cat([m.b * m.scale for m in members], dim=1))
        self._embedding = embedding
        self.gates: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the update (…, d_out) of an input (…, d_in), or of token ids (…)."""
        # An embedding's input is token ids: picking rows of aᵀ is the product with one-hot vectors.
        inner = self.a.T[x] if self._embedding else x.to(self.a.dtype) @ self.a.T
        if self.gates is not None:
            inner = inner * self.gates.to(inner.dtype)
        return inner @ self.b.T


def stack(
    adapters: Sequence[Modules], *, embeddings: frozenset[str] = frozenset()
) -> tuple[dict[str, GatedLayer], Layout]:
    """Return the gated layers of adapters, by module, and the owner of each rank.

    Args:
        adapters: in the order of the coefficients; their modules may differ.
        embeddings: the modules that read token ids.

    Raises:
        IncompatibleAdapters: a module has different widths in two adapters.
    """
    layers, owners = {}, {}
    for name in sorted({name for adapter in adapters for name in adapter}):
        members = [(at, adapter[name]) for at, adapter in enumerate(adapters) if name in adapter]
        widths = {(len(factors.b), factors.a.shape[1]) for _, factors in members}
        if len(widths) > 1:
            raise IncompatibleAdapters(f"{name}: (d_out, d_in) differ: {sorted(widths)}")
        layers[name] = GatedLayer([factors for _, factors in members], embedding=name in embeddings)
        ranks = torch.tensor([factors.rank for _, factors in members])
        owners[name] = torch.tensor([at for at, _ in members]).repeat_interleave(ranks)
    return layers, Layout(len(adapters), owners)


def updates_of(folder: AdapterFolder) -> Updates:
    """Return one adapter in the form that `attached` takes; float32 on the CPU.

    Raises:
        FormatError, OSError: it cannot be read.
    """
    layers, _ = stack([read_modules(folder)], embeddings=embeddings_of([folder]))
    return Updates(layers)


def read_modules(folder: AdapterFolder) -> Modules:
    """Return an adapter's factors by module, float32; each is read on access."""
    return OnDemand(folder.modules, lambda name: read_peft(folder, folder.modules[name]))


def embeddings_of(folders: Sequence[AdapterFolder]) -> frozenset[str]:
    """Return the modules that read token ids."""
    return frozenset(_embeddings(folders))


def _embeddings(folders: Sequence[AdapterFolder]) -> Iterator[str]:
    for folder in folders:
        for name, module in folder.modules.items():
            if module.kind == "embedding":
                yield name
