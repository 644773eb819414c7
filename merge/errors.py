"""The errors of a merge, by what the caller can do about them.

    MergeError
    ├── RecipeInvalid          the request is wrong: change the request
    │   ├── DocumentInvalid    a key or a value of a recipe's document is wrong
    │   └── LimitExceeded      it asks for more than this server allows
    ├── IncompatibleAdapters   the members cannot be merged together: choose others
    └── UnsafeResult           the result must not be served: change weights, scale or dtype
    MethodDefinitionError      a merge method is declared wrongly: a bug in its file
    ProcessDied                a process of the merge was killed: another try may succeed

A folder that is not a LoRA adapter raises `merge.peft_format.FormatError`; a full or missing disk
raises `OSError`.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class MergeError(ValueError):
    """A merge was refused; the message says what is wrong, where, and what to do."""


class RecipeInvalid(MergeError):
    """The recipe is wrong: an unknown method or option, a bad weight, no ingredient."""


class DocumentInvalid(RecipeInvalid):
    """A recipe's document is wrong at a place, such as `adapters[0].weight`."""

    def __init__(self, place: str, problem: str, separator: str = ": ") -> None:
        self.place = place
        super().__init__(f"{place}{separator}{problem}" if place else problem)


class LimitExceeded(RecipeInvalid):
    """The merge is larger than the server allows; the message names the limit."""


class IncompatibleAdapters(MergeError):
    """The members cannot be merged together: bases, shapes or contents do not agree."""


class UnsafeResult(MergeError):
    """The merged adapter would harm an engine: it is not finite, or its norm is above the limit."""


class MethodDefinitionError(TypeError):
    """A method's signature or registration does not meet the rules of `merge_method`."""


class ProcessDied(Exception):
    """A process of a merge was killed, which is seldom the recipe's fault."""

    def __init__(self, code: int | None) -> None:
        self.code = code  # negative: the number of the signal that ended it
        how = f"by signal {-code}" if code is not None and code < 0 else f"with code {code}"
        super().__init__(
            f"a process of the merge ended {how}, perhaps because the machine is short of memory: "
            "try again, with fewer processes"
        )

    def __reduce__(self) -> tuple[type["ProcessDied"], tuple[int | None]]:
        """Pickle with the code: the default would pass the message to `__init__`."""
        return ProcessDied, (self.code,)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean x or y?)" for the nearest known names, else ""."""
    near = get_close_matches(name[:80], list(known), n=2)
    return f" (did you mean {' or '.join(near)}?)" if near else ""
