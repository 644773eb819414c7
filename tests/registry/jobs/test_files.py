"""Rows of uploaded files."""

import pytest

from registry.errors import CursorInvalid
from registry.jobs.errors import FileInUse, UnknownFile
from registry.paging import cursor_at
from registry.service import Registry
from registry.storage.errors import Conflict
from tests.registry.jobs.rows import OTHER, TEAM, job_id, put_file, queue


def test_what_was_sent_comes_back(registry: Registry) -> None:
    """A file's row returns every field, with the sender and the time."""
    made = put_file(registry, 1, bytes=2**40, filename="späße.jsonl")
    assert made == registry.files.get(made.id)
    assert ("späße.jsonl", "fine-tune", 2**40, "0" * 64, None, "ada") == (
        made.filename, made.purpose, made.bytes, made.digest, made.namespace, made.created_by,
    )  # fmt: skip


def test_an_id_is_given_once(registry: Registry) -> None:
    """An id is used once: a second file cannot have it, even after the first was removed."""
    registry.files.remove(put_file(registry, 1).id)
    with pytest.raises(Conflict, match="pk_files"):
        put_file(registry, 1)


def test_pages_go_from_the_newest_and_do_not_shift(registry: Registry) -> None:
    """Files that are added or removed between two pages do not shift the next page."""
    ids = [put_file(registry, n).id for n in (3, 1, 4, 2, 5)]
    first = registry.files.page(limit=2)
    assert ids[3:][::-1] == [file.id for file in first.items]
    registry.files.remove(ids[3])  # where the page ended
    put_file(registry, 9)
    second = registry.files.page(limit=2, cursor=first.next_cursor)
    third = registry.files.page(limit=2, cursor=second.next_cursor)
    seen = [file.id for page in (second, third) for file in page.items]
    assert (ids[2::-1], None) == (seen, third.next_cursor)


def test_a_page_may_be_of_one_purpose(registry: Registry) -> None:
    """A page of one purpose leaves out and does not count other files."""
    other = put_file(registry, 1, purpose="batch").id
    put_file(registry, 2)
    page = registry.files.page(purpose="batch", limit=1)
    assert ([other], None) == ([file.id for file in page.items], page.next_cursor)


def test_a_page_goes_on_after_a_file_only(registry: Registry) -> None:
    """A cursor that is not a file's id is refused."""
    put_file(registry, 1)
    for after in ("", "file-x", job_id(1)):
        with pytest.raises(CursorInvalid):
            registry.files.page(cursor=cursor_at("files", after))


def test_a_removed_file_is_gone(registry: Registry) -> None:
    """Removing a file returns its row once; afterwards it is unknown, to jobs too."""
    file = put_file(registry, 1)
    assert file == registry.files.remove(file.id)
    assert () == registry.files.page().items
    with pytest.raises(UnknownFile, match=file.id):
        registry.files.get(file.id)
    with pytest.raises(UnknownFile):
        registry.files.remove(file.id)
    with pytest.raises(UnknownFile):
        queue(registry, 1, training_file=file.id)


def test_a_namespace_has_its_own_files(registry: Registry) -> None:
    """Callers of other namespaces do not see a file; callers without a namespace see all files."""
    file = put_file(registry, 1, caller=TEAM)
    free = put_file(registry, 2)
    assert "team" == file.namespace
    assert file == registry.files.get(file.id, caller=TEAM) == registry.files.get(file.id)
    assert [file] == list(registry.files.page(caller=TEAM).items)
    assert [free, file] == list(registry.files.page().items)
    for hidden, caller in ((file, OTHER), (free, TEAM)):
        with pytest.raises(UnknownFile):
            registry.files.get(hidden.id, caller=caller)
        with pytest.raises(UnknownFile):
            registry.files.remove(hidden.id, caller=caller)
        with pytest.raises(CursorInvalid):
            registry.files.page(cursor=cursor_at("files", hidden.id), caller=caller)
        with pytest.raises(UnknownFile):
            queue(registry, 1, training_file=hidden.id, caller=caller)


def test_a_file_stays_while_a_job_needs_it(registry: Registry) -> None:
    """A file that an active job uses cannot be removed, and the error names the job."""
    training, validation = put_file(registry, 1), put_file(registry, 2)
    queue(registry, 1, training_file=training.id, validation_file=validation.id)
    for file in (training, validation):
        with pytest.raises(FileInUse, match=job_id(1)):
            registry.files.remove(file.id)
    assert registry.jobs.claim("w", None)
    with pytest.raises(FileInUse, match=job_id(1)):
        registry.files.remove(training.id)
    registry.jobs.finish(job_id(1), "w", "succeeded")
    registry.files.remove(training.id)
    registry.files.remove(validation.id)
    assert training.id == registry.jobs.get(job_id(1)).training_file
