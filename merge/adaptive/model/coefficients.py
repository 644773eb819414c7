"""Coefficients: the trained numbers of a merge, and the gates computed from them.

The design space of arXiv 2602.12323 (appendix E and its release): granularity, activation and
initial values. In float32 whatever the base's dtype: a step of 5e-4 beside a coefficient of 1 is
below bfloat16's resolution and would be lost.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from merge.adaptive.model.hooks import Updates
from merge.adaptive.model.stacked import GatedLayer, Layout
from merge.adaptive.options import Design, Granularity, OptionsInvalid

SLOPE = 0.01  # of LeakyReLU below 0
_LAYER = re.compile(r"\blayers\.(\d+)\.(\w+)")


class Coefficients(nn.Module):
    """The trained numbers for one layout: `raw`, (groups, K) float32, or (1, ΣR) for `rank`."""

    places: Tensor
    segments: Tensor

    def __init__(self, layout: Layout, design: Design) -> None:
        super().__init__()
        self._design, self._layout = design, layout
        groups = _groups(layout, design.granularity)
        height = max(groups.values()) + 1
        total = sum(map(len, layout.owners.values()))
        size = (1, total) if design.granularity == "rank" else (height, layout.members)
        self.raw = nn.Parameter(_begin(size, design, layout))
        places = [groups[name] * layout.members + owner for name, owner in layout.owners.items()]
        by_rank = design.granularity == "rank"
        self.register_buffer("places", torch.arange(total) if by_rank else torch.cat(places))
        # The module of each rank: softmax over single ranks sums to 1 within a module.
        counts = torch.tensor([len(owner) for owner in layout.owners.values()])
        self.register_buffer("segments", torch.arange(len(counts)).repeat_interleave(counts))

    def values(self) -> Tensor:
        """Return the coefficients, `raw` after the activation, in its shape."""
        match self._design.activation:
            case "linear":
                return self.raw
            case "sigmoid":
                return self.raw.sigmoid()
            case "square":
                return self.raw.square()
            case "leaky_relu":
                return functional.leaky_relu(self.raw, SLOPE)
            case "softmax":
                by_rank = self._design.granularity == "rank"
                return self._softmax_in_modules() if by_rank else self.raw.softmax(dim=1)

    def _softmax_in_modules(self) -> Tensor:
        # Shifted by the maximum so that exp cannot overflow; the shift cancels in the quotient, and
        # so does its gradient, hence `detach`.
        flat = (self.raw - self.raw.max().detach()).exp().flatten()
        sums = torch.zeros(int(self.segments.max()) + 1, device=flat.device)
        sums = sums.index_add(0, self.segments, flat)
        return (flat / sums[self.segments])[None]

    def gates(self) -> dict[str, Tensor]:
        """Return (R,) float32 for each module, differentiable in `raw`."""
        flat = self.values().flatten()[self.places]
        counts = [len(owner) for owner in self._layout.owners.values()]
        return dict(zip(self._layout.owners, torch.split(flat, counts), strict=True))

    @torch.no_grad()
    def table(self) -> dict[str, tuple[float, ...]]:
        """Return each module's coefficient for each of the K members; 0 where it has none.

        Raises:
            OptionsInvalid: granularity `rank` has no number per member.
        """
        if self._design.granularity == "rank":
            raise OptionsInvalid(
                "granularity rank has a coefficient per rank: fold its gates instead"
            )
        table = {}
        for name, gates in self.gates().items():
            row = torch.zeros(self._layout.members)
            row[self._layout.owners[name]] = gates.cpu()
            table[name] = tuple(row.tolist())
        return table


class Gated(Updates):
    """Frozen adapters gated by coefficients, which `recycle` trains."""

    def __init__(self, layers: Mapping[str, GatedLayer], coefficients: Coefficients) -> None:
        super().__init__(layers)
        self.coefficients = coefficients

    def prepare(self) -> None:
        """Set every layer's gates from the coefficients."""
        gates = self.coefficients.gates()
        for name, layer in self.gated().items():
            layer.gates = gates[name]

    def gated(self) -> dict[str, GatedLayer]:
        """Return the layers by module, with their type."""
        layers = {}
        for name, layer in self.layers().items():
            assert isinstance(layer, GatedLayer)
            layers[name] = layer
        return layers


def _groups(layout: Layout, granularity: Granularity) -> dict[str, int]:
    """Return the number of the group of each module, counted from 0 in the modules' order."""
    keys = {name: _key(name, granularity) for name in layout.owners}
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys.values()))}
    return {name: numbers[key] for name, key in keys.items()}


def _key(name: str, granularity: Granularity) -> str:
    match = _LAYER.search(name)
    if granularity == "module":
        return name
    if granularity in ("adapter", "rank"):
        return ""
    if match is None:  # outside the layers: embeddings, lm_head
        return name
    return match[1] if granularity == "layer" else f"{match[1]}.{match[2]}"


def _begin(size: tuple[int, int], design: Design, layout: Layout) -> Tensor:
    generator = torch.Generator().manual_seed(design.seed)
    match design.initial:
        case "zero":
            return torch.zeros(size)
        case "uniform":
            return torch.rand(size, generator=generator)
        case "normal":
            return torch.randn(size, generator=generator) * 0.5
        case "root_k":
            return torch.full(size, layout.members**-0.5)
        case "one_hot":
            first = torch.cat(list(layout.owners.values())) == 0
            by_rank = design.granularity == "rank"
            column = first if by_rank else torch.arange(layout.members) == 0
            return column.float().expand(size).clone()
