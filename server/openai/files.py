"""`/v1/files`: examples come in, and are shown, sent back and removed."""

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
After = Annotated[str | None, Query(max_length=100, description="id of the last item seen")]
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
        """Keep a file of examples, chat JSONL: a line each."""
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
        found = files.page(
            purpose=purpose, cursor=after and cursor_at("files", after), limit=limit, caller=caller
        )
        return listed([file_object(file) for file in found.items], found.next_cursor is not None)

    @router.get("/{file}")
    def get_file(file: FileId, caller: Reader) -> dict[str, Any]:
        """Return what is known of a file."""
        return file_object(files.get(file, caller=caller))

    @router.get("/{file}/content", response_class=FileResponse)
    def get_content(file: FileId, caller: Reader) -> FileResponse:
        """Return a file's bytes as they came."""
        found = files.get(file, caller=caller)
        path = storage.file(found.id)
        if not path.is_file():  # a database that was restored without its files
            raise UnknownFile(file)
        return FileResponse(path, media_type="application/octet-stream", filename=found.filename)

    @router.delete("/{file}")
    def remove_file(file: FileId, caller: Publisher) -> dict[str, Any]:
        """Remove a file; refused while a job that has not ended needs it."""
        removed = files.remove(file, actor=caller.name, caller=caller)
        with storage_errors(_WHAT):
            storage.remove_file(removed.id)
        return {"id": removed.id, "object": "file", "deleted": True}

    return router


async def _receive(gateway: Gateway, request: Request, caller: Caller) -> dict[str, Any]:
    """Write a request's file to disk and then down in the registry.

    Raises:
        RequestInvalid, UploadTooLarge: as `multipart.receive`; for another purpose.
        StoreFull, StoreBroken: as they say.
    """
    storage, limit = gateway.storage, gateway.settings.file_max_bytes
    with storage_errors(_WHAT):
        incoming = await asyncio.to_thread(storage.incoming)
        try:
            form = await receive(request, incoming, limit_bytes=limit)
            return file_object(
                await asyncio.to_thread(
                    keep_file, gateway.registry.files, storage, incoming, _checked(form), caller
                )
            )
        finally:
            await asyncio.to_thread(incoming.discard)


def _checked(form: Form) -> str:
    """Return the file's name, once the form's fields are what they must be."""
    purpose = form.fields.get("purpose")
    if purpose != PURPOSE:
        raise RequestInvalid(f"purpose: only {PURPOSE} has a use here, not {purpose!r}", "purpose")
    for name in form.fields:
        if name != "purpose":
            raise RequestInvalid(f"{name!r:.80} is not supported: files stay until removed", name)
    shown = "".join(c for c in (form.filename or "") if c.isprintable())
    return shown[-_MAX_FILENAME:] or "examples.jsonl"


def file_object(file: File) -> dict[str, Any]:
    """Return a file as OpenAI's clients know it."""
    return {
        "id": file.id, "object": "file", "bytes": file.bytes, "filename": file.filename,
        "created_at": int(file.created_at.timestamp()), "purpose": file.purpose,
        "status": "processed", "expires_at": None, "status_details": None,
    }  # fmt: skip


def listed(items: list[dict[str, Any]], more: bool) -> dict[str, Any]:
    """Return a page of a list as OpenAI's clients read it."""
    ids = [item["id"] for item in items] or [None]
    return {
        "object": "list", "data": items, "has_more": more, "first_id": ids[0], "last_id": ids[-1],
    }  # fmt: skip
