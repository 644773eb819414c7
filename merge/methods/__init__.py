"""The merge methods: one file each, one pure function of one module, registered with its paper.

Importing this package registers all of them in `METHODS`.
"""

from merge.methods import cat, lego, linear
from merge.methods.method import METHODS, MergeMethod, Parameter, find_method, merge_method
from merge.methods.options import AUTO, Value

__all__ = [
    "AUTO",
    "METHODS",
    "MergeMethod",
    "Parameter",
    "Value",
    "cat",
    "find_method",
    "lego",
    "linear",
    "merge_method",
]
