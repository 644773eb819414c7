"""The bases that a registry knows, with their aliases and the shapes of their modules."""

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
    """The bases of a registry. Safe to share by threads."""

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
        """Add a base; for a base that is already known, add the aliases that are new.

        Args:
            name: as users write it, usually `owner/name`.
            shapes: (d_out, d_in) of every module's update: `registry.bases.module_shapes`.
            aliases: other spellings that `registry.bases.base_key` does not fold, or paths.
            architecture: the class that its config.json names.
            chat_template: SHA-256 of its chat template (`registry.admission.tokenizer`); None
                leaves a stored one as it is.
            actor: recorded in the audit log.

        Raises:
            NameInvalid: empty, too long, or with characters that cannot be printed.
            NameTaken: it is the name of an adapter or a composition.
            BaseConflict: known with other shapes, or a spelling of it means another base.
        """
        if not 0 < len(name) <= MAX_LENGTH or not name.isprintable():
            raise NameInvalid(name[:MAX_LENGTH], f"1 to {MAX_LENGTH} printable characters")
        stored = {module: list(shape) for module, shape in shapes.items()}
        row = BaseRow(name=name, architecture=architecture, shapes=stored)
        with self._database.transaction() as session:
            if not claim(session, row, actor) and queries.base_shapes(session, name) != stored:
                raise BaseConflict(name, "it is known with other shapes of modules")
            if chat_template is not None:
                queries.set_chat_template(session, name, chat_template)
            new = [key for key in sorted(base_keys(name, aliases)) if _add_key(session, name, key)]
            if new:
                audit.record(session, actor, "base.added", name, keys=new)
        return self.get(name)

    def get(self, name: str) -> Base:
        """Return the base that `name` is a spelling of.

        Raises:
            UnknownBase: naming those that are known.
        """
        with self._database.read() as session:
            return rows.base(find(session, name))

    def list(self) -> tuple[Base, ...]:
        """Return all bases, by name."""
        with self._database.read() as session:
            return tuple(rows.base(row) for row in queries.bases(session))


def find(session: ReadSession, text: str) -> BaseRow:
    """Return the base that `text` is a spelling of.

    Raises:
        UnknownBase: naming those that are known.
    """
    row = queries.base_by_key(session, base_key(text))
    if row is None:
        raise UnknownBase(text, [base.name for base in queries.bases(session)])
    return row


def _add_key(session: WriteSession, name: str, key: str) -> bool:
    """Make a key mean this base; return whether it is new."""
    try:
        insert(session, BaseAliasRow(key=key, base=name))
    except Conflict as conflict:
        owner = queries.owner_of_key(session, key)
        if owner != name:
            raise BaseConflict(name, f"{key!r} means {owner} already") from conflict
        return False
    return True
