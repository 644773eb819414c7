"""What is known of recipes that cannot be built, so that nobody builds them again and again.

Kept in memory, for a while and for a bounded number of recipes. Not covered: which errors are the
recipe's fault (`build.py`).
"""

import copy
import time
from collections import OrderedDict
from collections.abc import Callable


class Refusals:
    """Errors by the digest of a recipe.

    Args:
        seconds: how long an error is kept; the server or its load may have changed since.
        most: recipes; the oldest are forgotten first.
        clock: returns seconds.
    """

    def __init__(
        self, *, seconds: float = 600.0, most: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._seconds, self._most, self._clock = seconds, most, clock
        self._errors: OrderedDict[str, tuple[float, Exception]] = OrderedDict()

    def add(self, recipe: str, error: Exception) -> None:
        """Keep the error of a recipe, without what its traceback holds."""
        self._errors.pop(recipe, None)
        self._errors[recipe] = (self._clock() + self._seconds, copy.copy(error))
        while len(self._errors) > self._most:
            self._errors.popitem(last=False)

    def check(self, recipe: str) -> None:
        """Raise the error that the recipe's last build ended with, if it is kept."""
        until, error = self._errors.get(recipe, (0.0, None))
        if error is None:
            return
        if until <= self._clock():
            del self._errors[recipe]
            return
        raise copy.copy(error)
