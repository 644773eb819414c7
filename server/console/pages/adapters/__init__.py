"""The page of all adapters: the table, the map beside it, and what was picked from both."""

from server.console.page import Page
from server.console.pages.adapters.listing import build

ADAPTERS = Page("/", "Adapters", build, menu="Adapters")
