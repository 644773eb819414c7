"""The page of one adapter: one file per part of it. `?version=N` shows a version."""

from server.console.page import Page
from server.console.pages.adapter.overview import build

ADAPTER = Page("/adapters/{name:path}", "{name}", build)
