"""Path and query parameters of the registry's API, each with its pattern and an example.

A name may contain slashes, so its subresources follow `/-/`, which no name contains:
`/registry/adapters/team/legal/-/aliases/prod`.
"""

from typing import Annotated

from fastapi import Header, Path, Query

from merge.peft_format import DIGEST
from registry.paging import MAX_PAGE
from registry.references import MAX_ALIAS_LENGTH, MAX_LENGTH

SEGMENT = "[a-z][a-z0-9._-]*"
NAME = f"^{SEGMENT}(/{SEGMENT})*$"
# Text that every database can store and every terminal can show.
PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
MAX_NUMBER = 999_999_999

Name = Annotated[str, Path(pattern=NAME, max_length=MAX_LENGTH, examples=["team/legal"])]
BaseName = Annotated[
    str,
    Path(pattern=PRINTABLE, max_length=MAX_LENGTH, examples=["meta-llama/Llama-3.1-8B-Instruct"]),
]
Number = Annotated[int, Path(ge=1, le=MAX_NUMBER, examples=[3])]
AliasName = Annotated[
    str, Path(pattern=f"^{SEGMENT}$", max_length=MAX_ALIAS_LENGTH, examples=["prod"])
]
KeyName = Annotated[str, Path(pattern=f"^({SEGMENT}/)?{SEGMENT}$", max_length=121, examples=["ci"])]
Digest = Annotated[str, Path(pattern=f"^{DIGEST}$", examples=["3f" * 32])]
DigestStart = Annotated[
    str,
    Path(
        max_length=MAX_LENGTH,
        description="A digest, or its first 12 or more digits.",
        examples=["3f" * 32],
    ),
]

Cursor = Annotated[
    str | None,
    Query(max_length=1000, description="The `next_cursor` of the previous page.", examples=[None]),
]
Limit = Annotated[
    int,
    Query(ge=1, le=MAX_PAGE, description="The maximum number of items per page.", examples=[20]),
]
AskedBase = Annotated[
    str | None,
    Query(
        pattern=PRINTABLE,
        max_length=MAX_LENGTH,
        description="The base, if the adapter's config names none.",
    ),
]
AskedOrigin = Annotated[
    str | None,
    Query(pattern=PRINTABLE, max_length=500, description="where the files come from"),
]
AskedAlias = Annotated[
    str | None,
    Query(
        pattern=f"^{SEGMENT}$",
        max_length=MAX_ALIAS_LENGTH,
        description="An alias to move to the new version.",
    ),
]
HubToken = Annotated[
    str | None,
    Header(
        pattern=r"^[\x21-\x7e]+$", max_length=500,
        description="The caller's own token of the Hub; without it, only public repositories.",
    ),
]  # fmt: skip
