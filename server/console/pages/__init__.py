"""The pages of the console, in the order of the navigation: one file or folder each."""

from server.console.page import Page
from server.console.pages.adapter import ADAPTER
from server.console.pages.adapters import ADAPTERS

PAGES: tuple[Page, ...] = (ADAPTERS, ADAPTER)
