"""`/v1/files`: upload, list, download and delete files of examples."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import FileResponse

from registry.callers import Caller
from registry.jobs.errors import UnknownFile
from registry.jobs.types import File
from registry.paging import cursor_at
from server.artifacts.store import storage_errors
from server.auth import Publisher, Reader
from server.errors import RequestInvalid
from server.gateway import Gateway
from server.jobs.storage import PURPOSE, keep_file
from server.openai.multipart import Form, receive
from server.routing import openai_routes

PREFIX = "/v1/files"
MAX_PAGE = 10_000
_MAX_FILENAME = 255
_WHAT = "the file"

FileId = Annotated[str, Path(max_length=100, examples=["file-0123456789abcdef01234567"])]
After = Annotated[
    str | None, Query(max_length=100, description="The id of the last item of the previous page.")
]
_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "purpose"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "purpose": {"type": "string", "enum": [PURPOSE]},
                },
            }
        }
    },
}


def files_router(gateway: Gateway) -> APIRouter:
    """Return the routes."""
    router = openai_routes("/files", "files")
    files, storage = gateway.registry.files, gateway.storage

    @router.post("", openapi_extra={"requestBody": _FORM})
    async def create_file(request: Request, caller: Publisher) -> dict[str, Any]:
        """Upload a file of examples in JSON Lines, one chat per line."""
        return await _receive(gateway, request, caller)

    @router.get("")
    def list_files(
        caller: Reader,
        after: After = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
        order: Literal["desc"] = "desc",
        purpose: Annotated[str | None, Query(max_length=60)] = None,
    ) -> dict[str, Any]:
        """List files, newest first."""
        del order
        page = files.page(
            purpose=purpose, cursor=after and cursor_at("files", after), limit=limit, caller=caller
        )
        return listed([file_object(file) for file in page.items], page.next_cursor is not None)

    @router.get("/{file}")
    def get_file(file: FileId, caller: Reader) -> dict[str, Any]:
        """Return the metadata of a file."""
        return file_object(files.get(file, caller=caller))

    @router.get("/{file}/content", response_class=FileResponse)
    def get_content(file: FileId, caller: Reader) -> FileResponse:
        """Return the content of a file."""
        metadata = files.get(file, caller=caller)
        path = storage.file(metadata.id)
        if not path.is_file():  # a database that was restored without its files
            raise UnknownFile(file)
        return FileResponse(path, media_type="application/octet-stream", filename=metadata.filename)

    @router.delete("/{file}")
    def remove_file(file: FileId, caller: Publisher) -> dict[str, Any]:
        """Delete a file. Files of jobs that have not ended cannot be deleted."""
        removed = files.remove(file, actor=caller.name, caller=caller)
        with storage_errors(_WHAT):
            storage.remove_file(removed.id)
        return {"id": removed.id, "object": "file", "deleted": True}

    return router


async def _receive(gateway: Gateway, request: Request, caller: Caller) -> dict[str, Any]:
    """Write the file of a request to disk and record it in the registry.

    Raises:
        RequestInvalid, UploadTooLarge: as `multipart.receive`; for another purpose.
        StoreFull, StoreBroken: as they say.
    """
    storage, limit = gateway.storage, gateway.settings.file_max_bytes
    files = gateway.pools.files
    with storage_errors(_WHAT):
        incoming = await files.run(storage.incoming)
        try:
            form = await receive(request, incoming, files, limit_bytes=limit)
            return file_object(
                await files.run(
                    keep_file, gateway.registry.files, storage, incoming, _checked(form), caller
                )
            )
        finally:
            await asyncio.to_thread(incoming.discard)  # never refused


def _checked(form: Form) -> str:
    """Check the fields of the form and return the file's name."""
    purpose = form.fields.get("purpose")
    if purpose != PURPOSE:
        raise RequestInvalid(f"`purpose` must be {PURPOSE!r}, not {purpose!r:.80}.", "purpose")
    for name in form.fields:
        if name != "purpose":
            raise RequestInvalid(
                f"The field {name!r:.80} is not supported; files are kept until they are deleted.",
                name,
            )
    shown = "".join(c for c in (form.filename or "") if c.isprintable())
    return shown[-_MAX_FILENAME:] or "examples.jsonl"


def file_object(file: File) -> dict[str, Any]:
    """Return the OpenAI file object of a file."""
    return {
        "id": file.id, "object": "file", "bytes": file.bytes, "filename": file.filename,
        "created_at": int(file.created_at.timestamp()), "purpose": file.purpose,
        "status": "processed", "expires_at": None, "status_details": None,
    }  # fmt: skip


def listed(items: list[dict[str, Any]], more: bool) -> dict[str, Any]:
    """Return OpenAI's list object for a page of items."""
    ids = [item["id"] for item in items] or [None]
    return {
        "object": "list", "data": items, "has_more": more, "first_id": ids[0], "last_id": ids[-1],
    }  # fmt: skip
