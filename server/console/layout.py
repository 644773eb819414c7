"""The frame of every page: skip link, header with navigation, theme, who is signed in, sign-out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nicegui import ui

from server.console.page import Page
from server.console.parts.text import plain, tagged
from server.console.sessions import Session

_THEMES: dict[bool | None, tuple[bool | None, str, str]] = {
    # theme -> the next, the icon, the label
    None: (True, "brightness_auto", "Theme: as the system"),
    True: (False, "dark_mode", "Theme: dark"),
    False: (None, "light_mode", "Theme: light"),
}
PRIMARY = "#1f5a96"
STYLE = """
.weft-text { unicode-bidi: isolate; overflow-wrap: anywhere; white-space: pre-wrap; }
.weft-long { max-height: 24rem; overflow: auto; width: 100%; border: 1px solid #8888;
  padding: .5rem; }
.weft-long pre, .weft-refusal pre { white-space: pre-wrap; margin: 0; font-family: inherit; }
.weft-refusal { border-left: 4px solid #c10015; padding: .5rem; }
.weft-refusal pre { flex: 1 1 12rem; font-family: monospace; }
.weft-empty { padding: 1rem; gap: .5rem; }
.weft-scroll { width: 100%; overflow-x: auto; }
.weft-table { border-collapse: collapse; width: 100%; }
.weft-table caption { text-align: left; font-weight: 600; padding: .25rem 0; }
.weft-table th, .weft-table td { text-align: left; padding: .25rem .6rem;
  border-bottom: 1px solid #8884; vertical-align: top; }
.weft-table td.weft-text { overflow-wrap: normal; max-width: 28rem; }
.weft-table a.weft-text { white-space: nowrap; }
.weft-table .weft-number { font-variant-numeric: tabular-nums; }
.nicegui-link { color: #1a56a8; }
.body--dark .nicegui-link { color: #8ab4f8; }
.body--dark :is(main, .q-dialog, .q-menu) { --q-primary: #8ab4f8; }
.body--dark :is(.q-btn:not(.q-btn--flat, .q-btn--outline), .q-badge, .q-uploader) {
  --q-primary: #1f5a96; }
.weft-table tr.weft-picked { cursor: pointer; }
.weft-table tr.weft-picked:hover { background: #8882; }
.weft-facts { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
.weft-facts dt { font-weight: 600; }
.weft-facts dd { margin: 0; min-width: 0; }
.weft-table th .q-btn { padding: 0; min-height: 0; }
.weft-figure { margin: 0; }
.weft-figure figcaption { font-weight: 600; }
.weft-header { background: #2b4f7a; color: #fff; }
.weft-header .nicegui-link, .body--dark .weft-header .nicegui-link { color: #fff; }
.weft-header a[aria-current] { text-decoration: underline; text-underline-offset: .3rem; }
.weft-form label { display: block; }
.weft-form input { width: 100%; padding: .5rem; border: 1px solid #888; border-radius: 4px;
  background: inherit; color: inherit; }
a:focus-visible, button:focus-visible, [tabindex]:focus-visible { outline: 2px solid #c80; }
"""


@contextmanager
def layout(title: str, menu: Sequence[Page], session: Session) -> Iterator[None]:
    """Draw the frame of a page, and open its main part for the page's own elements."""
    dark = ui.dark_mode(session.dark)
    ui.colors(primary=PRIMARY)
    with ui.header(wrap=False).classes("weft-header items-center gap-3 px-3 py-1"):
        _draw_menu_button(menu)
        ui.link("weft", "/").classes("text-lg font-bold no-underline")
        with ui.element("nav").classes("flex gap-4 max-md:hidden").props("aria-label=Pages"):
            for entry in menu:
                _draw_link(entry)
        ui.space()
        _draw_theme(session, dark)
        ui.label(plain(session.who.name, 40)).classes("max-sm:hidden")
        if session.key is not None:
            ui.link("Sign out", "/sign-in")
    with ui.element("div").classes("w-full p-3 flex flex-col gap-4") as body:  # in NiceGUI's <main>
        ui.skip_link("Skip to the page", target=body)
        tagged("h1", title).classes("text-xl font-bold")
        yield


def _draw_menu_button(menu: Sequence[Page]) -> None:
    with (
        ui.button(icon="menu", color=None).props("flat dense aria-label=Menu").classes("md:hidden"),
        ui.menu(),
    ):
        for entry in menu:
            ui.menu_item(entry.menu, on_click=lambda path=entry.path: ui.navigate.to(path))


def _draw_link(entry: Page) -> None:
    link = ui.link(entry.menu, entry.path).classes("no-underline")
    if ui.context.client.request.url.path == entry.path:
        link.props("aria-current=page")


def _draw_theme(session: Session, dark: ui.dark_mode) -> None:
    def turn() -> None:
        session.dark = _THEMES[session.dark][0]
        dark.set_value(session.dark)
        show()

    def show() -> None:
        _, icon, label = _THEMES[session.dark]
        button.set_icon(icon)
        button.props["aria-label"] = label

    button = ui.button(icon="brightness_auto", on_click=turn, color=None)
    button.props("flat dense round")
    show()
