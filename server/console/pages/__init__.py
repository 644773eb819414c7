"""The pages of the console, in the order of the navigation: one file or folder each."""

from server.console.page import Page
from server.console.pages.adapter import ADAPTER
from server.console.pages.adapters import ADAPTERS
from server.console.pages.compare.page import COMPARE
from server.console.pages.compose.page import COMPOSE
from server.console.pages.engine import ENGINE
from server.console.pages.jobs import JOB_PAGES
from server.console.pages.registry import REGISTRY_PAGES

PAGES: tuple[Page, ...] = (
    ADAPTERS, ADAPTER, COMPOSE, COMPARE, *JOB_PAGES, ENGINE, *REGISTRY_PAGES,
)  # fmt: skip
