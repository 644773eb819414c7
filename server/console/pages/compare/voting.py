"""A blind vote: which answer is best, the tally, and storing it as evaluations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nicegui import ui

from server.console.api.client import Api
from server.console.api.evaluations import record, version_of
from server.console.api.identity import Identity
from server.console.pages.compare.ballot import METRIC, Tally, letter
from server.console.parts.refusal import attempt
from server.console.parts.table import Column as TableColumn
from server.console.parts.table import Table


@dataclass(frozen=True, slots=True)
class Standing:
    """What the tally says of one column."""

    model: str
    wins: int
    share: float


class Voting:
    """The buttons of a vote and the table of the tally; `voted` is called after each vote."""

    def __init__(self, api: Api, who: Identity, tally: Tally, voted: Callable[[], None]) -> None:
        self._api, self._who, self.tally, self._voted = api, who, tally, voted
        self._buttons = ui.row().classes("w-full items-center gap-2")
        self._table = ui.column().classes("w-full")
        self._draw()

    def ask(self, order: Sequence[int], reveal: Callable[[], None]) -> None:
        """Show a button for each answer, in the order in which they stand, and one for a tie.

        `reveal` is called once the vote is given.
        """

        def vote(column: int | None) -> None:
            self.begin(self.tally.vote(column))
            self._voted()
            reveal()

        self._buttons.clear()
        with self._buttons:
            for place, column in enumerate(order):
                ui.button(
                    f"{letter(place)} is best", on_click=lambda column=column: vote(column)
                ).props("no-caps")
            ui.button("Tie", on_click=lambda: vote(None)).props("no-caps outline")

    def end(self) -> None:
        """Take the buttons away."""
        self._buttons.clear()

    def begin(self, tally: Tally) -> None:
        """Go on with another tally, such as that of other columns."""
        self.end()
        self.tally = tally
        self._draw()

    def _draw(self) -> None:
        self._table.clear()
        tally = self.tally
        if not tally.votes:
            return
        rows = [
            Standing(model, tally.wins[place], tally.share(place))
            for place, model in enumerate(tally.models)
        ]
        columns = [
            TableColumn[Standing]("Model", lambda row: row.model),
            TableColumn[Standing]("Votes", lambda row: row.wins),
            TableColumn[Standing]("Share", lambda row: row.share),
        ]
        with self._table:
            Table(f"Blind votes: {tally.votes}, of which ties: {tally.ties}", columns, rows)
            if self._who.has("publish"):
                ui.button("Store as evaluations", icon="save", on_click=self._store).props(
                    "no-caps outline"
                )

    async def _store(self) -> None:
        stored: list[str] = []

        async def act() -> None:
            stored.extend(await store_tally(self._api, self.tally))

        if not await attempt(act):
            return
        if stored:
            ui.notify(f"Stored for {', '.join(stored)}; the tally begins anew.", type="positive")
            self.begin(Tally(self.tally.models))
            self._voted()
        else:
            ui.notify(
                "None of the columns is a version of an adapter or a composition, and only these "
                "have evaluations. Save the composition first.", type="warning",
            )  # fmt: skip


async def store_tally(api: Api, tally: Tally) -> list[str]:
    """Record each column's share of the votes where it is a version; return these versions.

    Raises:
        Refused: with the API's words; what was recorded before stays.
    """
    stored = []
    for column, model in enumerate(tally.models):
        version = await version_of(api, model)
        if version is not None:
            await record(
                api, version, dataset=tally.dataset(column), metric=METRIC,
                value=tally.share(column), n=tally.votes,
            )  # fmt: skip
            stored.append(version.reference)
    return stored
