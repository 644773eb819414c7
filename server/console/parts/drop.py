"""A field that takes a file, dropped or chosen by a button that has a name."""

from collections.abc import Awaitable, Callable

from nicegui import events, ui

# The field's own button has no name, and its input no label: the input is hidden behind this one.
_HEAD = (
    '<div class="row items-center q-pa-sm q-gutter-sm">'
    '<q-btn outline no-caps icon="attach_file" label="Choose a file" @click="props.pickFiles" />'
    "<div>or drop it here</div>"
    '<div style="display: none"><q-uploader-add-trigger /></div></div>'
)


def drop(
    take: Callable[[str, bytes], Awaitable[None]], *, endings: str, most_bytes: int
) -> ui.upload:
    """Show the field; `take` gets the name and the bytes of each file.

    Args:
        take: awaited for one file after the other.
        endings: of the names that are offered to choose from, such as ".txt,.jsonl".
        most_bytes: of a file; larger ones are refused before they are sent.
    """

    async def receive(event: events.UploadEventArguments) -> None:
        field.reset()
        await take(event.file.name, await event.file.read())

    def reject() -> None:
        ui.notify(f"A file has at most {most_bytes:,} bytes ({endings}).", type="negative")

    field = ui.upload(
        auto_upload=True, max_file_size=most_bytes, on_upload=receive, on_rejected=reject
    ).classes("w-full")
    field.props["accept"] = endings
    field.add_slot("header", _HEAD)
    return field
