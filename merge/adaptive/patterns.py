"""Regular expressions of clients: RE2, which takes linear time and bounded memory.

Not covered: what a match means (`merge.adaptive.scoring.answers`).
"""

from functools import lru_cache
from typing import Any

import re2

# Bounds the compiled pattern: a tenth of a second to compile, and a millisecond for each five
# characters of text at the very worst.
_PATTERN_BYTES = 2**18


class PatternInvalid(ValueError):
    """The text is not a regular expression of RE2, or a too large one."""


@lru_cache(maxsize=32)
def compiled(pattern: str) -> Any:
    """Return an RE2 pattern: it matches in time linear in the text, whatever it is.

    Raises:
        PatternInvalid: with RE2's reason.
    """
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _PATTERN_BYTES
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise PatternInvalid(error.args[0].decode(errors="replace")) from error
    except UnicodeEncodeError as error:
        raise PatternInvalid("it holds half of a surrogate pair") from error
