"""API keys: listed, made and shown once, limited, revoked."""

from typing import get_args

from nicegui import ui

from server.console.api.identity import Role
from server.console.api.keys import Key, NewKey, create_key, keys, revoke_key
from server.console.page import PageContext
from server.console.pages.registry.limits import changed_limits, limits_text
from server.console.parts.confirm import confirmed
from server.console.parts.empty import empty
from server.console.parts.refusal import attempt
from server.console.parts.section import Section
from server.console.parts.table import Column, cursor_table
from server.console.parts.text import tagged
from server.console.parts.units import moment


def build(page: PageContext) -> None:
    """Show the keys that the signed-in key manages, and the form of a new one."""
    form = ui.column().classes("w-full")
    listed = _Keys(page)
    if page.who.has("admin"):
        with form:
            _KeyForm(page, listed.section)


class _Keys:
    """The list of keys, each with the button that revokes it."""

    def __init__(self, page: PageContext) -> None:
        self._page = page
        columns = [
            *_COLUMNS,
            Column[Key](
                "Limits a minute", lambda key: limits_text(key.limits), cell=self._draw_limits
            ),
            Column[Key]("Revoke", _state, cell=self._draw_revoking),
        ]
        self.section = cursor_table("Keys", columns, lambda at: keys(page.api, at), self._nothing)

    def _nothing(self) -> None:
        empty("The server has no keys of its own. Create one above, for each user or program.")

    def _draw_limits(self, key: Key) -> None:
        text = limits_text(key.limits)
        if key.revoked_at is not None or not self._page.who.operates:
            tagged("span", text)
            return
        button = ui.button(text, on_click=lambda: self._change_limits(key))
        button.props("flat no-caps dense").props["aria-label"] = f"Limits of {key.name}: {text}"
        button.mark(f"limit-{key.name}")

    async def _change_limits(self, key: Key) -> None:
        if await changed_limits(self._page.api, key):
            await self.section.load()

    def _draw_revoking(self, key: Key) -> None:
        if key.revoked_at is not None or not self._page.who.has("admin"):
            tagged("span", _state(key))
            return
        button = ui.button("Revoke", on_click=lambda: self._ask_to_revoke(key.name))
        button.props("flat no-caps dense").props["aria-label"] = f"Revoke {key.name}"
        button.mark(f"revoke-{key.name}")

    async def _ask_to_revoke(self, name: str) -> None:
        question = f"Revoke the key {name}? Within two seconds it stops working, permanently."
        if name == self._page.who.name:
            question = f"{question} You are signed in with it."
        if await confirmed(question, do="End it") and await attempt(
            lambda: revoke_key(self._page.api, name)
        ):
            await self.section.load()


class _KeyForm:
    """The form of a new key, which is shown once."""

    def __init__(self, page: PageContext, listed: Section) -> None:
        self._page, self._listed = page, listed
        with ui.row().classes("items-end w-full"):
            self._name = ui.input("Name", placeholder="ci").mark("key-name")
            self._role = ui.select(list(get_args(Role)), label="Role", value="chat").classes("w-32")
            self._namespace = ui.input("Namespace", value=page.who.namespace or "")
            self._everywhere = ui.switch("All namespaces")
            self._everywhere.set_visibility(page.who.operates)
            ui.button("Create a key", on_click=lambda: attempt(self._create)).props("no-caps")

    async def _create(self) -> None:
        made = await create_key(
            self._page.api, self._name.value.strip(), self._role.value,
            self._namespace.value.strip() or None, all_namespaces=self._everywhere.value,
        )  # fmt: skip
        self._name.set_value("")
        await _show_once(made)
        await self._listed.load()


async def _show_once(made: NewKey) -> None:
    """Show a key until the dialog is closed; then it is nowhere in the console."""
    with ui.dialog().props("persistent aria-label=Key") as dialog, ui.card():
        tagged("p", f"The key {made.about.name}. It is shown only now: copy it before you close.")
        tagged("code", made.key).mark("new-key")
        ui.button("Close", on_click=lambda: dialog.submit(None)).props("no-caps")
    await dialog
    dialog.delete()


def _state(key: Key) -> str:
    return "in use" if key.revoked_at is None else f"revoked {moment(key.revoked_at)}"


def _scope(key: Key) -> str:
    return "all" if key.all_namespaces else key.namespace or "what is public"


_COLUMNS = [
    Column[Key]("Name", lambda key: key.name),
    Column[Key]("Begins with", lambda key: key.prefix),
    Column[Key]("Role", lambda key: key.role),
    Column[Key]("Namespace", _scope),
    Column[Key]("Created", lambda key: f"{moment(key.created_at)} by {key.created_by}"),
    Column[Key]("Last used", lambda key: moment(key.last_used_at) or "never"),
]
