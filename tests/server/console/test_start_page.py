"""The page that starts a job."""

import asyncio

import pytest
from nicegui import ui
from nicegui.elements.upload_files import SmallFileUpload
from nicegui.testing import User

from registry.callers import LOCAL
from registry.service import Registry
from server.console.pages.jobs import starting
from tests.server.conftest import BASE
from tests.server.console.conftest import SignIn
from tests.server.jobs.conftest import examples


async def drop(user: User, text: str, field: str = "training_file") -> None:
    """Drop a file into a field."""
    (upload,) = user.find(marker=field).elements
    assert isinstance(upload, ui.upload)
    file = SmallFileUpload("examples.jsonl", "application/jsonl", text.encode())
    await upload.handle_uploads([file])


def files_of(registry: Registry) -> list[str]:
    """Return the ids of the files on the server."""
    return [file.id for file in registry.files.page(caller=LOCAL).items]


@pytest.fixture
async def form(user: User) -> User:
    """A browser on the page."""
    await user.open("/jobs/new")
    await user.should_see("Start the job", retries=30)
    return user


async def test_a_job_is_started(form: User, registry: Registry) -> None:
    """A dropped file is checked, and starts a job with the chosen options and pool."""
    await drop(form, examples(12))
    await form.should_see("examples.jsonl: 12 examples with 12 questions.", retries=50)
    (pool,) = form.find(marker="pool-kind").elements
    assert isinstance(pool, ui.toggle)
    pool.set_value("Named adapters")
    form.find(marker="pool").type("zorp, blim")
    form.find(marker="option-k").clear().type("2")
    form.find("Start the job").click()
    await form.should_see("Cancel the job", retries=50)
    (job,) = registry.jobs.page(caller=LOCAL).items
    assert [2] == job.request["options"]["k"]
    assert ["zorp", "blim"] == job.request["pool"]
    assert BASE == job.base
    assert files_of(registry) == [job.training_file]


async def test_the_chosen_base_is_asked_for(
    user: User, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a server has several bases, the form offers them, and the server gets the choice."""

    monkeypatch.setattr(starting, "bases_of", lambda _: [BASE, "org/other"])
    await user.open("/jobs/new")
    await user.should_see("Start the job", retries=30)
    await drop(user, examples(12))
    await user.should_see("12 questions", retries=50)
    (base,) = user.find(marker="base").elements
    assert isinstance(base, ui.select)
    base.set_value("org/other")
    user.find("Start the job").click()
    await user.should_see("base must be weft/demo-llama", retries=50)
    assert not registry.jobs.page(caller=LOCAL).items


async def test_bad_lines_are_shown_in_place(form: User, registry: Registry) -> None:
    """A file with a bad line shows the line and what is wrong, and cannot start a job."""
    await drop(form, examples(12) + "{broken\n")
    await form.should_see("examples.jsonl cannot be used: one problem.", retries=50)
    await form.should_see("{broken")
    await form.should_see("not JSON")
    (start,) = form.find("Start the job").elements
    assert not start.enabled  # type: ignore[attr-defined]


async def test_files_of_no_job_are_removed(form: User, registry: Registry) -> None:
    """A file that another replaces, or that is left behind, is removed from the server."""
    await drop(form, examples(3))
    await form.should_see("cannot be used", retries=50)
    first = files_of(registry)
    await drop(form, examples(12))
    await form.should_see("12 questions", retries=50)
    second = files_of(registry)
    assert (1, 1) == (len(first), len(second))
    assert first != second
    assert form.client is not None
    form.client.delete()
    for _ in range(50):
        if not files_of(registry):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the file is still on the server")


async def test_options_follow_the_method(form: User) -> None:
    """The form has the options of the chosen method, with their meaning."""
    await form.should_see(marker="option-learning_rate")
    (method,) = form.find(marker="method").elements
    assert isinstance(method, ui.select)
    method.set_value("lorahub")
    await form.should_see(marker="option-budget")
    await form.should_see("evaluations of the loss")
    await form.should_not_see(marker="option-learning_rate", retries=1)


async def test_an_option_that_is_none_is_told(form: User, registry: Registry) -> None:
    """A value that the server does not accept is refused in its words, and no job is started."""
    await drop(form, examples(12))
    await form.should_see("12 questions", retries=50)
    form.find(marker="option-k").clear().type("many")
    form.find("Start the job").click()
    await form.should_see("option k takes", retries=50)
    assert not registry.jobs.page(caller=LOCAL).items


async def test_a_reader_is_refused(sign_in: SignIn, registry: Registry) -> None:
    """A role that may not start jobs gets the API's refusal if it forces it."""
    _, key = registry.access.keys.create("reader", role="read", all_namespaces=True)
    reader = await sign_in(key)
    await reader.open("/jobs/new")
    await reader.should_see("Start the job", retries=30)
    await drop(reader, examples(12))
    await reader.should_see("the request needs the role publish", retries=50)
