"""What a page of the console is, and what it is given when it is shown.

A page builds at once, without asking the server: what the server answers comes by sections
(`parts/section.py`), so that the frame of a page is there before its first answer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from server.console.api.client import Api
from server.console.api.identity import Identity


@dataclass(frozen=True, slots=True)
class PageContext:
    """What one showing of a page works with.

    `parameters` are those of the path and of the query of the page's address.
    """

    api: Api
    who: Identity
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its path, its title, what builds it, and where it is found.

    `title` may name parameters, as in `{name}`. `menu` is its label in the navigation; "" leaves
    it out.
    """

    path: str
    title: str
    build: Callable[[PageContext], None]
    menu: str = ""
