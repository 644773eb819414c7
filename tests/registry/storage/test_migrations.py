"""The schema that the migrations create is the schema of the models."""

import multiprocessing
from pathlib import Path

import pytest
from alembic import command, op
from alembic.autogenerate import compare_metadata
from alembic.config import CommandLine
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import create_engine, text

import migrations
from registry.references import parse_reference
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.database import Database, migrations_config
from registry.storage.errors import DatabaseAhead, DatabaseOutdated
from registry.storage.models import Table
from registry.types import ResolvedAdapter
from tests.registry.conftest import BASE, SHAPES, write_adapter


def _url(path: Path) -> str:
    return f"sqlite:///{path}"


def _schema(path: Path) -> dict[str, list[str]]:
    """Return the DDL of every table, index and trigger with sorted lines."""
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    with create_engine(_url(path)).connect() as connection:
        rows = connection.execute(text(query)).all()
    # SQLite quotes the name of a renamed table; a copy of a table is renamed.
    return {
        name: sorted(line.strip(" ,\t").replace('"', "") for line in sql.splitlines())
        for name, sql in rows
    }


def _downgrade(path: Path) -> None:
    with create_engine(_url(path)).begin() as connection:
        command.downgrade(migrations_config(connection), "base")


def test_the_revisions_build_what_the_models_say(tmp_path: Path) -> None:
    """After an upgrade from empty to head, Alembic finds no difference to the metadata."""
    Database(_url(tmp_path / "a.db")).upgrade()
    with create_engine(_url(tmp_path / "a.db")).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert [] == compare_metadata(context, Table.metadata)


def test_the_ddl_is_the_same_to_the_letter(tmp_path: Path) -> None:
    """Constraint names, checks and nullability, which Alembic does not compare, agree."""
    Database(_url(tmp_path / "a.db")).upgrade()
    Table.metadata.create_all(create_engine(_url(tmp_path / "b.db")))
    migrated = {
        name: ddl
        for name, ddl in _schema(tmp_path / "a.db").items()
        if name != "alembic_version" and not name.startswith("changes_")  # triggers
    }
    assert _schema(tmp_path / "b.db") == migrated


def test_down_and_up_again(tmp_path: Path) -> None:
    """A downgrade to base leaves no table; an upgrade creates the same schema again."""
    database = Database(_url(tmp_path / "a.db"))
    database.upgrade()
    first = _schema(tmp_path / "a.db")
    _downgrade(tmp_path / "a.db")
    assert {"alembic_version"} == set(_schema(tmp_path / "a.db"))
    database.upgrade()
    assert first == _schema(tmp_path / "a.db")


def test_a_database_behind_says_how_to_upgrade(tmp_path: Path) -> None:
    """A missing and a downgraded database are outdated, and `check` creates no file."""
    database = Database(_url(tmp_path / "a.db"))
    with pytest.raises(DatabaseOutdated, match="weft db upgrade"):
        database.check()
    assert not (tmp_path / "a.db").exists()
    database.upgrade()
    database.check()
    _downgrade(tmp_path / "a.db")
    with pytest.raises(DatabaseOutdated, match="weft db upgrade"):
        database.check()


def test_a_database_ahead_is_left_alone(tmp_path: Path) -> None:
    """An unknown revision belongs to a newer version of weft."""
    database = Database(_url(tmp_path / "a.db"))
    database.upgrade()
    with database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '2999_01_01_0000'"))
    with pytest.raises(DatabaseAhead, match="2999"):
        database.check()
    with pytest.raises(DatabaseAhead, match="2999"):
        database.upgrade()


def test_an_upgrade_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DDL is part of the transaction: a crash leaves no incomplete schema."""

    def fail(*_: object) -> None:
        raise OSError("the lights went out")

    monkeypatch.setattr(op, "create_index", fail)
    with pytest.raises(OSError, match="lights"):
        Database(_url(tmp_path / "a.db")).upgrade()
    assert {} == _schema(tmp_path / "a.db")


def _upgrade(path: Path) -> None:
    database = Database(_url(path))
    database.upgrade()
    database.check()


def test_several_processes_may_upgrade_at_once(tmp_path: Path) -> None:
    """One process upgrades; the others wait and find the current schema."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_upgrade, args=(tmp_path / "a.db",)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [0, 0, 0] == [process.exitcode for process in processes]


def test_file_names_say_when_and_in_which_order_to_deploy() -> None:
    """The file is named `<revision>_<before|after>_<what>.py` and contains the same revision."""
    scripts = list(ScriptDirectory.from_config(migrations_config()).walk_revisions())
    assert tuple(script.revision for script in reversed(scripts)) == migrations.revisions()
    for script in scripts:
        name = Path(script.path).name
        assert name.startswith((f"{script.revision}_before_", f"{script.revision}_after_"))
        assert script.revision in script.longdoc


def test_a_new_revision_can_be_written_from_the_template(tmp_path: Path) -> None:
    """`alembic revision` writes a file that compiles."""
    config = migrations_config()
    config.set_main_option("version_locations", str(tmp_path))
    command.revision(config, message="nothing yet", rev_id="2999_01_01_0000", head="base")
    written = next(tmp_path.glob("2999*.py")).read_text()
    compile(written, "revision", "exec")
    assert "lock_timeout" in written


def test_alembic_by_hand_needs_a_database(tmp_path: Path) -> None:
    """`-x url=…` names the database; the command explains a missing URL or database."""
    options = CommandLine().parser.parse_args(["-x", f"url={_url(tmp_path / 'a.db')}", "current"])
    config = migrations_config()
    config.cmd_opts = options
    command.upgrade(config, "head")
    Database(_url(tmp_path / "a.db")).check()
    with pytest.raises(CommandError, match="which database"):
        command.upgrade(migrations_config(), "head")
    with pytest.raises(CommandError, match="--sql"):
        command.upgrade(migrations_config(), "head", sql=True)


def test_a_step_down_and_up_keeps_rows_that_others_refer_to(tmp_path: Path) -> None:
    """A table that is copied keeps its rows and the embeddings that refer to them."""
    database = Database(_url(tmp_path / "a.db"))
    database.upgrade()
    registry = Registry(database, LocalBlobs(tmp_path / "blobs"))
    registry.bases.add(BASE, shapes=SHAPES)
    registry.adapters.register(write_adapter(tmp_path / "legal"), name="legal", alias="prod")
    with create_engine(_url(tmp_path / "a.db")).begin() as connection:
        command.downgrade(migrations_config(connection), "2026_11_25_0900")
    database.upgrade()
    resolved = registry.versions.resolve(parse_reference("legal@prod"))
    assert isinstance(resolved, ResolvedAdapter)
    with database.read() as session:
        assert 0 < session.execute(text("SELECT count(*) FROM embeddings")).scalar_one()
        assert [] == session.execute(text("PRAGMA foreign_key_check")).all()
