"""The bases of a registry, with their aliases and the shapes of their modules."""

from collections.abc import Iterable

from registry.access import audit
from registry.bases import base_key, base_keys
from registry.errors import BaseConflict, NameInvalid, UnknownBase
from registry.references import MAX_LENGTH
from registry.storage.database import Database, ReadSession, WriteSession
from registry.storage.errors import Conflict
from registry.storage.insert import insert
from registry.storage.models import BaseAliasRow, BaseRow
from registry.types import Base, Shapes
from registry.versions import queries, rows
from registry.versions.names import claim


class Bases:
    """The bases of a registry. Threads may share one instance."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        name: str,
        *,
        shapes: Shapes,
        aliases: Iterable[str] = (),
        architecture: str | None = None,
        chat_template: str | None = None,
        actor: str = "local",
    ) -> Base:
        """Add a base, or add new aliases to a registered base.

        Args:
            name: the name of the base, usually `owner/name`.
            shapes: (d_out, d_in) of every module's update; see `registry.bases.module_shapes`.
            aliases: paths, or spellings that `registry.bases.base_key` maps to another key.
            architecture: the architecture in the base's config.json.
            chat_template: the SHA-256 of the chat template (see `registry.admission.tokenizer`);
                None does not change a stored hash.
            actor: the actor to record in the audit log.

        Raises:
            NameInvalid: the name is empty, too long or not printable.
            NameTaken: the name belongs to an adapter or a composition.
            BaseConflict: the base is registered with other shapes, or a spelling belongs to another
                base.
        """
        if not 0 < len(name) <= MAX_LENGTH or not name.isprintable():
            raise NameInvalid(name[:MAX_LENGTH], f"1 to {MAX_LENGTH} printable characters")
        stored = {module: list(shape) for module, shape in shapes.items()}
        row = BaseRow(name=name, architecture=architecture, shapes=stored)
        with self._database.transaction() as session:
            if not claim(session, row, actor) and queries.base_shapes(session, name) != stored:
                raise BaseConflict(name, "it is registered with other shapes of modules")
            if chat_template is not None:
                queries.set_chat_template(session, name, chat_template)
            new = [key for key in sorted(base_keys(name, aliases)) if _add_key(session, name, key)]
            if new:
                audit.record(session, actor, "base.added", name, keys=new)
        return self.get(name)

    def get(self, name: str) -> Base:
        """Return the base with the name or alias `name`.

        Raises:
            UnknownBase: no base matches; the error lists the registered bases.
        """
        with self._database.read() as session:
            return rows.base(find(session, name))

    def list(self) -> tuple[Base, ...]:
        """Return all bases, sorted by name."""
        with self._database.read() as session:
            return tuple(rows.base(row) for row in queries.bases(session))


def find(session: ReadSession, text: str) -> BaseRow:
    """Return the base with the name or alias `text`.

    Raises:
        UnknownBase: no base matches; the error lists the registered bases.
    """
    row = queries.base_by_key(session, base_key(text))
    if row is None:
        raise UnknownBase(text, [base.name for base in queries.bases(session)])
    return row


def _add_key(session: WriteSession, name: str, key: str) -> bool:
    """Assign a key to a base; return whether the key is new."""
    try:
        insert(session, BaseAliasRow(key=key, base=name))
    except Conflict as conflict:
        owner = queries.owner_of_key(session, key)
        if owner != name:
            raise BaseConflict(name, f"{key!r} already belongs to {owner}") from conflict
        return False
    return True
