"""The merge methods: one file each, one pure function of one module, registered with its paper.

Importing this package is cheap. The first use of `METHODS` or `find_method` imports every method,
and torch with them, so that a process that merges nothing never pays for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from merge.methods.options import AUTO, MATCH, Value

if TYPE_CHECKING:
    from merge.methods.method import METHODS, MergeMethod, Parameter, find_method, merge_method

__all__ = [
    "AUTO",
    "MATCH",
    "METHODS",
    "MergeMethod",
    "Parameter",
    "Value",
    "find_method",
    "merge_method",
]
_FILES = (
    "actmat", "average", "average_factors", "cat", "compress", "ctm", "elementwise", "iso_c",
    "karcher", "lego", "linear", "model_stock", "pico", "random_factors", "safemerge", "slerp",
    "tsv",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    for file in _FILES:
        import_module(f"{__name__}.{file}")
    return getattr(import_module(f"{__name__}.method"), name)
