"""A frozen base with updates beside its layers, for as long as a context lasts.

Updates act through forward hooks, so one copy of the base serves every candidate and its weights
are never touched.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class Updates(nn.Module):
    """What may be attached to a base: by module name, what turns its input into its update."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        # Dots are not allowed in the names of submodules.
        self._names = tuple(layers)
        self._layers = nn.ModuleList(layers.values())

    def layers(self) -> dict[str, nn.Module]:
        """Return the layers by the base's module names."""
        return dict(zip(self._names, self._layers, strict=True))

    def begin(self, step: int) -> None:
        """Called before each step of a training: what is drawn in it follows from its number."""

    def prepare(self) -> None:
        """Called before each pass of the base: compute what all modules share."""


@contextmanager
def attached(model: Any, updates: Updates | None) -> Iterator[None]:
    """Give `model` the updates, if any, for as long as the context lasts.

    Raises:
        AttributeError: the base has no module of a name.
    """
    if updates is None:
        yield
        return
    handles = [model.register_forward_pre_hook(lambda *_: updates.prepare())]
    try:
        for name, layer in updates.layers().items():
            handles.append(model.get_submodule(name).register_forward_hook(_adding(layer)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _adding(layer: nn.Module) -> Any:
    def add(_module: Any, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
        update: Tensor = layer(inputs[0])
        return out + update.to(out.dtype)

    return add


def freeze(model: Any) -> Any:
    """Return `model` in evaluation mode, without a gradient anywhere."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model.eval()
