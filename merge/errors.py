"""What a merge can refuse, and whose turn it is to act.

    MergeError
    ├── RecipeInvalid          what was asked for makes no sense: change the request
    ├── IncompatibleAdapters   these members do not go together: choose others
    └── UnsafeResult           the result must not be served: change weights, scale or dtype
    MethodDefinitionError      a merge method is declared wrongly: a programmer's mistake

A folder that is no LoRA adapter raises `merge.peft_format.FormatError`; a full or missing disk
raises `OSError` as it comes.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class MergeError(ValueError):
    """A merge that was refused; the message says what, where, and what to do."""


class RecipeInvalid(MergeError):
    """The recipe itself is wrong: an unknown method or option, a bad weight, no ingredient."""


class IncompatibleAdapters(MergeError):
    """The members cannot be merged with each other: bases, shapes or contents do not agree."""


class UnsafeResult(MergeError):
    """The merged adapter would harm an engine: not finite, or enormous."""


class MethodDefinitionError(TypeError):
    """A method's signature or registration is not what `merge_method` understands."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean x or y?)" where known names are near, else nothing."""
    near = get_close_matches(name[:80], list(known), n=2)
    return f" (did you mean {' or '.join(near)}?)" if near else ""
