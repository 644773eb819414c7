"""The merge methods: one file each, one pure function of one module, registered with its paper.

Importing this package registers all of them in `METHODS`.
"""

from merge.methods import (
    average,
    average_factors,
    cat,
    compress,
    ctm,
    elementwise,
    iso_c,
    karcher,
    lego,
    linear,
    model_stock,
    random_factors,
    slerp,
    tsv,
)
from merge.methods.method import METHODS, MergeMethod, Parameter, find_method, merge_method
from merge.methods.options import AUTO, MATCH, Value

__all__ = [
    "AUTO",
    "MATCH",
    "METHODS",
    "MergeMethod",
    "Parameter",
    "Value",
    "average",
    "average_factors",
    "cat",
    "compress",
    "ctm",
    "elementwise",
    "find_method",
    "iso_c",
    "karcher",
    "lego",
    "linear",
    "merge_method",
    "model_stock",
    "random_factors",
    "slerp",
    "tsv",
]
