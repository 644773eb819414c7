"""Updates attached to a frozen base while a context manager is open.

Updates act through forward hooks: one copy of the base serves every candidate and its weights are
not modified, so nothing has to be subtracted, with rounding, afterwards.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class Updates(nn.Module):
    """Layers to attach to a base, by module name: from a module's input to its update's output."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        # Dots are not allowed in the names of submodules.
        self._names = tuple(layers)
        self._layers = nn.ModuleList(layers.values())

    def layers(self) -> dict[str, nn.Module]:
        """Return the layers by the base's module names."""
        return dict(zip(self._names, self._layers, strict=True))

    def begin(self, step: int) -> None:
        """Prepare a training step; its random draws depend on its number alone."""

    def prepare(self) -> None:
        """Compute what all layers share; called before each pass of the base."""


@contextmanager
def attached(model: Any, updates: Updates | None) -> Iterator[None]:
    """Attach the updates, if any, to `model` until the context ends.

    Raises:
        AttributeError: the base lacks one of the modules.
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
    """Return `model` in evaluation mode, with gradients off for all parameters."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model.eval()
