"""The page Compare on a real gateway: answers side by side, blind votes, batches, copies."""

from typing import Any
from urllib.parse import urlencode

from nicegui import ui
from nicegui.testing import User

from registry.service import Registry
from tests.server.conftest import BASE
from tests.server.console.conftest import KEY, SignIn
from tests.server.console.test_compose import soon


def address(*models: str, **more: str) -> str:
    """Return the page's address with these models."""
    numbered = {f"model{n}" if n > 1 else "model": m for n, m in enumerate(models, start=1)}
    return f"/compare?{urlencode(numbered | more)}"


async def open_with_prompt(user: User, url: str, prompt: str = "zorp: x") -> None:
    """Open the page and write a prompt."""
    await user.open(url)
    await soon(user, "Ask")
    (field,) = user.find(kind=ui.textarea, marker="prompt").elements
    with user:
        field.value = prompt


def texts(user: User, marker: str) -> list[str]:
    """Return the texts of the elements with a marker, in the order of the page."""
    elements: set[Any] = user.find(marker=marker).elements
    return [element.text for element in sorted(elements, key=lambda element: element.id)]


async def test_models_answer_side_by_side(user: User, digest_of: Any) -> None:
    """Each column has its answer, its times, its tokens, what answered and the server's timing."""
    await open_with_prompt(user, address(BASE, "zorp", "cat(zorp, blim)"))
    user.find("Ask").click()
    await soon(user, f"answered by {BASE}")
    await soon(user, f"answered by {digest_of('zorp')}")
    await soon(user, "Server-Timing: resolve")
    await soon(user, f"Answered by: {digest_of('zorp')[:12]}")
    await soon(user, "Tokens: 3")
    await soon(user, "First token: ")


async def test_a_refusal_stays_in_its_column(user: User) -> None:
    """A model that does not exist has the API's words in its column, and the others answer."""
    await open_with_prompt(user, address(BASE, "zorpp"))
    user.find("Ask").click()
    await soon(user, f"answered by {BASE}")
    await soon(user, "Nothing is registered as 'zorpp'")


async def test_a_blind_vote_hides_names_until_it_is_given(user: User, registry: Registry) -> None:
    """Answers have letters and no times until the vote; the tally is stored as evaluations."""
    await open_with_prompt(user, address("zorp@1", "blim@prod", BASE))
    user.find(kind=ui.switch).click()
    user.find("Ask").click()
    await soon(user, "A is best")
    assert ["Answer A", "Answer B", "Answer C"] == texts(user, "answer-name")
    await user.should_not_see("Server-Timing")
    user.find("B is best").click()
    await soon(user, "Blind votes: 1, of which ties: 0")
    names = texts(user, "answer-name")
    assert {"zorp@1", "blim@prod", BASE} == set(names)
    await soon(user, "Server-Timing")
    user.find("Store as evaluations").click()
    await soon(user, "Ask")
    await user.should_not_see("Blind votes:", retries=200)
    stored = [registry.evaluations.page(name, 1).items[0] for name in ("zorp", "blim")]
    assert [float(names[1] == model) for model in ("zorp@1", "blim@prod")] == [
        evaluation.value for evaluation in stored
    ]
    assert {(1, "share of blind votes")} == {(e.n, e.metric) for e in stored}
    assert f"blind votes against blim@prod, {BASE}" == stored[0].dataset


async def test_votes_in_the_address_are_counted_on(user: User) -> None:
    """The page opens with the votes that its address has: a restart loses none."""
    await user.open(address("zorp", "blim", votes="3.1.2"))
    await soon(user, "Blind votes: 6, of which ties: 2")


async def test_a_file_of_prompts_is_answered_as_a_table(user: User) -> None:
    """Each prompt is a row with every model's answer; what differs from the first is marked."""
    await user.open(address("zorp", "blim"))
    await soon(user, "A file of prompts")
    upload = user.find(kind=ui.upload).elements.pop()
    file = ui.upload.SmallFileUpload("prompts.txt", "text/plain", _data=b"zorp: a\nblim: b\n")
    await upload.handle_uploads([file])
    await soon(user, "2 prompts answered; to 0 of 2 all columns answered the same.")
    marked = texts(user, "differs")
    assert 2 <= len(marked)
    assert not any("answered" in text for text in marked)
    user.find("Download").click()
    lines = (await user.download.next()).text.splitlines()
    assert 2 == len(lines)


async def test_a_file_that_is_no_list_of_prompts_says_where(user: User) -> None:
    """Lines that cannot be read are told by their number, and nothing is asked."""
    await user.open(address("zorp"))
    await soon(user, "A file of prompts")
    upload = user.find(kind=ui.upload).elements.pop()
    file = ui.upload.SmallFileUpload("prompts.jsonl", "text/plain", _data=b"a\n{b\n")
    await upload.handle_uploads([file])
    await soon(user, "line 2: not JSON")


async def test_a_request_is_copied_without_the_key(user: User) -> None:
    """The dialog has the request for curl and for Python, which read the key themselves."""
    await open_with_prompt(user, address("zorp"))
    user.find("Ask").click()
    await soon(user, "Copy as curl or Python")
    user.find("Copy as curl or Python").click()
    await soon(user, "authorization: Bearer $WEFT_KEY")
    await soon(user, 'os.environ["WEFT_KEY"]')
    await user.should_not_see(KEY)


async def test_a_prompt_is_suggested(user: User, registry: Registry) -> None:
    """The examples of the adapters that are compared, or of those merged, fill in the prompt."""
    registry.search.descriptions.set_examples("blim", ["blim: apple"], actor="test")
    await user.open(address("cat(zorp, blim)"))
    await soon(user, kind=ui.button, content="blim: apple")
    user.find(kind=ui.button, content="blim: apple").click()
    (field,) = user.find(kind=ui.textarea, marker="prompt").elements
    assert "blim: apple" == field.value


async def test_columns_are_added_and_removed(user: User) -> None:
    """The base is added by a click, an expression by writing it, and each has a way out."""
    await user.open("/compare")
    await soon(user, "No model is compared yet")
    await soon(user, f"Add the base {BASE}")
    user.find(f"Add the base {BASE}").click()
    await soon(user, marker=f"column {BASE}")
    user.find(kind=ui.input, marker="model").type("linear(zorp, 0.5*blim)")
    user.find("Add column").click()
    await soon(user, marker="column 0.5*blim)")
    user.find(marker=f"remove {BASE}").click()
    await user.should_not_see(marker=f"column {BASE}")


async def test_a_key_that_may_not_chat_sees_no_button(sign_in: SignIn, registry: Registry) -> None:
    """A key of the role read can look at columns, and has nothing to ask them with."""
    _, key = registry.access.keys.create("reader", role="read", all_namespaces=True)
    user = await sign_in(key)
    await user.open(address("zorp"))
    await soon(user, marker="column zorp")
    await user.should_not_see(kind=ui.button, content="Ask")
