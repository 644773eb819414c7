"""The draft of one showing of the page: what changes it, and what follows.

The controls and the JSON write the draft at once; an expression is read by the server, which
answers with the object that says the same. The server's answer also has the expression of a draft.
"""

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from server.console.api.client import Api
from server.console.api.composing import Explanation, explain
from server.console.pages.compose.draft import (
    Draft,
    Ingredient,
    document_of,
    draft_of,
    write_draft,
)

# What a change was made with: it is not told again there.
Origin: TypeAlias = Literal["values", "controls", "json", "expression"]


class Editor:
    """A draft and its explanation.

    Followers are called with the origin of the last change: `on_draft` once the draft is another,
    `on_explained` once the server has explained it; `on_written` is called once it should be asked.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self.draft = Draft()
        self.explanation: Explanation | None = None  # of the draft as it is
        self._expression = ""  # written, and not read yet
        self._edition = 0  # grows with each change
        self._origin: Origin = "controls"
        self.on_draft: list[Callable[[Origin], None]] = []
        self.on_explained: list[Callable[[Origin], None]] = []
        self.on_written: list[Callable[[], None]] = []

    @property
    def expression(self) -> str:
        """The draft as the server writes it; empty before it has, and where only JSON can."""
        return (self.explanation and self.explanation.expression) or ""

    def change(self, draft: Draft, origin: Origin = "controls") -> None:
        """Replace the draft."""
        if draft == self.draft and not self._expression:
            return
        self._expression = ""
        self._replace(draft, origin)
        self._written()

    def write_expression(self, text: str) -> None:
        """Let the server read an expression at the next explanation; no text empties the draft."""
        self._expression = text.strip()
        if not self._expression:
            self._replace(Draft(), "expression")
        self._written()

    async def explained(self) -> Explanation | None:
        """Return the explanation of the draft as it is, asked for unless it is there.

        Raises:
            Refused: as `explain`.
        """
        return self.explanation or await self.explain()

    async def explain(self) -> Explanation | None:
        """Ask the server what was written means; None if nothing is.

        Raises:
            Refused: with the API's words, and the place in an expression.
        """
        expression, edition = self._expression, self._edition
        explanation = None
        if expression or self.draft.ingredients:
            explanation = await explain(self._api, expression or document_of(self.draft))
        if edition != self._edition:  # written anew meanwhile: the next explanation is the draft's
            return explanation
        if expression and explanation is not None:
            self._expression = ""
            self._replace(_draft_in(explanation, expression), "expression")
        self.explanation = explanation
        for follow in self.on_explained:
            follow(self._origin)
        return explanation

    def _replace(self, draft: Draft, origin: Origin) -> None:
        self.draft, self._origin = draft, origin
        for follow in self.on_draft:
            follow(origin)

    def _written(self) -> None:
        self.explanation = None
        self._edition += 1
        for follow in self.on_written:
            follow()


def _draft_in(explanation: Explanation, expression: str) -> Draft:
    if explanation.composition is not None:
        return draft_of(explanation.composition)
    return (
        Draft(ingredients=(Ingredient(expression),)) if explanation.kind == "adapter" else Draft()
    )


def address_of(editor: Editor) -> Mapping[str, str]:
    """Return the parameters of the page's address that write the draft again."""
    if editor.expression:
        return {"model": editor.expression}
    draft = editor.draft
    return {"composition": write_draft(draft, indent=None)} if draft.ingredients else {}
