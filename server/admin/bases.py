"""`/registry/bases`: the models that adapters are for."""

from fastapi import APIRouter
from pydantic import Field

from registry.bases import architecture_of
from registry.types import Base
from server.admin.bodies import BaseBody
from server.admin.fields import BaseName, Cursor, Limit
from server.admin.schemas import BaseDetail, BaseItem, PageOf
from server.auth import Operator, Reader
from server.base_shapes import base_shapes
from server.engine.lora_models import lora_problem
from server.gateway import Gateway
from server.routing import admin_routes

_STILL_DONE = "its adapters can be kept, searched, merged and exported, but not answer requests"


def bases_router(gateway: Gateway) -> APIRouter:
    """Return the routes of bases."""
    router = admin_routes("/bases", "bases")
    registry = gateway.registry

    @router.get("")
    def list_bases(_: Reader, cursor: Cursor = None, limit: Limit = 20) -> PageOf[BaseItem]:
        """List bases by name."""
        page = registry.catalogue.bases(cursor=cursor, limit=limit)
        return PageOf(items=[_item(base) for base in page.items], next_cursor=page.next_cursor)

    @router.post("", status_code=201)
    def add_base(body: BaseBody, caller: Operator) -> AddedBaseItem:
        """Register a base by its config.json, or add spellings to a registered base."""
        if body.config is None:
            known = registry.bases.get(body.name)
            name, shapes, architecture = known.name, known.shapes, known.architecture
        else:
            name, shapes = body.name, base_shapes(body.config)
            architecture = architecture_of(body.config)
        made = registry.bases.add(
            name, shapes=shapes, aliases=body.aliases, architecture=architecture,
            actor=caller.name,
        )  # fmt: skip
        problem = lora_problem(made.architecture) if made.architecture else None
        notes = [] if problem is None else [f"{problem}: {_STILL_DONE}"]
        return AddedBaseItem(**_item(made).model_dump(), notes=notes)

    @router.get("/{name:path}")
    def get_base(name: BaseName, _: Reader) -> BaseDetail:
        """Return a base by its name or any spelling of it, with the shapes of its modules."""
        base = registry.bases.get(name)
        return BaseDetail(**_item(base).model_dump(), shapes=dict(base.shapes))

    return router


class AddedBaseItem(BaseItem):
    """A base that was added; `notes` say what the engine cannot do with it."""

    notes: list[str] = Field(examples=[["vLLM 0.32.0 serves GPT2LMHeadModel without LoRA: …"]])


def _item(base: Base) -> BaseItem:
    return BaseItem(
        name=base.name, architecture=base.architecture, module_count=base.module_count,
        keys=sorted(base.keys),
    )  # fmt: skip
