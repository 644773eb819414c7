"""A field that takes a file, dropped or chosen by a button that has a name."""

from collections.abc import Awaitable, Callable

from nicegui import events, ui
from nicegui.elements.upload_files import FileUpload

# In place of Quasar's own: its button has no name and its input no label, so that a reader of the
# screen cannot tell them apart. The input is hidden behind this button.
_HEAD = (
    '<div class="row items-center q-pa-sm q-gutter-sm">'
    '<q-btn outline no-caps icon="attach_file" label="{label}" @click="props.pickFiles" />'
    "<div>or drop it here</div>"
    '<div style="display: none"><q-uploader-add-trigger /></div></div>'
)


def drop(
    label: str,
    take: Callable[[FileUpload], Awaitable[None]],
    *,
    endings: str,
    most_bytes: int,
) -> ui.upload:
    """Show the field; `take` gets each file.

    Args:
        label: of the button, in our own words: it becomes part of a template.
        take: awaited for one file after the other.
        endings: of the names that are offered to choose from, such as ".txt,.jsonl".
        most_bytes: of a file; larger ones are refused before they are sent.
    """

    async def receive(event: events.UploadEventArguments) -> None:
        await take(event.file)
        field.reset()

    def reject() -> None:
        ui.notify(f"A file has at most {most_bytes:,} bytes ({endings}).", type="negative")

    field = ui.upload(
        auto_upload=True, max_file_size=most_bytes, on_upload=receive, on_rejected=reject
    )
    field.props["accept"] = endings
    field.add_slot("header", _HEAD.format(label=label))
    return field
