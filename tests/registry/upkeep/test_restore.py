"""Older dumps are restored; damaged, truncated and other files are refused."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.storage.database import Database
from registry.storage.errors import DatabaseOutdated, DatabaseUnavailable, ReferencesBroken
from registry.upkeep import queries
from registry.upkeep.dump import dump
from registry.upkeep.errors import DumpInvalid
from registry.upkeep.restore import restore

FIRST = "2026_11_22_0600"
KINDS = {"name": "plain", "kind": "plain", "created_at": "moment", "created_by": "plain"}


@pytest.fixture
def target(tmp_path: Path) -> Database:
    """A database that does not exist yet."""
    return Database(f"sqlite:///{tmp_path / 'target.db'}")


def a_dump() -> list[Any]:
    """Return the lines of a small dump of the first schema."""
    return [
        {"format": "weft-dump", "version": 1, "revision": FIRST, "rows": {"names": 1}},
        {"table": "names", "columns": dict(KINDS)},
        ["a/b", "adapter", "2026-01-02T03:04:05+00:00", "me"],
    ]


def _written(path: Path, document: list[Any]) -> Path:
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in document).encode()))
    return path


def test_an_old_dump_is_upgraded(target: Database, tmp_path: Path) -> None:
    """The rows are loaded into the schema of their dump, which is then upgraded."""
    restore(target, _written(tmp_path / "old.gz", a_dump()))
    target.check()
    with target.read() as session:
        assert ["a/b"] == [row[0] for row in queries.all_rows(session, "names")]
        assert 1 == queries.count_rows(session)["revision"]


Lines = list[Any]
Damage = Callable[[Lines], Any]


def _change(index: int, **changes: Any) -> Damage:
    def change(lines: Lines) -> None:
        lines[index] = lines[index] | changes

    return change


def _twice(lines: Lines) -> None:
    lines[0]["rows"]["names"] = 2
    lines.append(lines[2])


DAMAGES: dict[str, tuple[Damage, str]] = {
    "another format": (_change(0, format="tar"), "Line 1 .*not a dump of weft"),
    "not a header": (lambda lines: lines.insert(0, [1]), "Line 1 .*not a dump of weft"),
    "nothing": (lambda lines: lines.clear(), "Line 1 .*not a dump of weft"),
    "a later format": (_change(0, version=2), "Line 1 .*format 2.*install the version"),
    "a later schema": (_change(0, revision="2999_01_01_0000"), "Line 1 .*2999.*install the"),
    "a part of a revision": (_change(0, revision="2026"), "Line 1 .*'2026'"),
    "a revision that is a list": (_change(0, revision=["head"]), "Line 1 .*head"),
    "no counts": (_change(0, rows=7), "Line 1 .*number of rows by table"),
    "counts that are no numbers": (_change(0, rows={"names": "1"}), "Line 1 .*number of rows"),
    "a row before any table": (lambda lines: lines.pop(1), "Line 2 .*expected a table or a row"),
    "neither table nor row": (lambda lines: lines.insert(1, "x"), "Line 2 .*a table or a row"),
    "a strange table": (_change(1, table="sqlite_master"), "Line 2 .*no table 'sqlite_master'"),
    "a hostile table": (_change(1, table="names; DROP TABLE names"), "Line 2 .*no table"),
    "a table that is a list": (_change(1, table=["names"]), "Line 2 .*no table"),
    "alembic's table": (_change(1, table="alembic_version"), "Line 2 .*no table"),
    "strange columns": (_change(1, columns={"x": "plain"}), "Line 2 .*expected the columns"),
    "no columns": (_change(1, columns=None), "Line 2 .*expected the columns"),
    "a strange kind": (lambda lines: lines[1]["columns"].update(name="pickle"), "Line 2 .*kinds"),
    "a short row": (lambda lines: lines[2].pop(), "Line 3 .*does not fit names"),
    "a value of another kind": (lambda lines: lines[2].__setitem__(0, {}), "Line 3 .*does not fit"),
    "no moment": (lambda lines: lines[2].__setitem__(2, "yesterday"), "Line 3 .*does not fit"),
    "a moment too far": (
        lambda lines: lines[2].__setitem__(2, "0001-01-01T00:00:00+23:00"), "Line 3 .*does not fit",
    ),
    "a moment in no zone": (
        lambda lines: lines[2].__setitem__(2, "2026-01-01T00:00:00"), "Line 3 .*time zone",
    ),
    "a row twice": (_twice, "earlier row does not fit names"),
    "a row too many": (lambda lines: lines.append(lines[2]), "Line 4 .*more rows than the 1"),
    "a count below zero": (_change(0, rows={"names": -1}), "Line 1 .*number of rows"),
    "a count of a strange table": (_change(0, rows={"nams": 1}), "Line 1 .*no table 'nams'"),
    "a row too few": (lambda lines: lines.pop(), "ends with 0 of 1 rows"),
    "a null where none may be": (lambda lines: lines[2].__setitem__(1, None), "does not fit"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_dump_is_refused_and_changes_nothing(
    target: Database, tmp_path: Path, damage: str
) -> None:
    """The error names the damaged line, and the database stays empty."""
    change, says = DAMAGES[damage]
    lines = a_dump()
    change(lines)
    with pytest.raises(DumpInvalid, match=says):
        restore(target, _written(tmp_path / "bad.gz", lines))
    with pytest.raises(DatabaseOutdated, match="None"):
        target.check()


def test_a_row_that_refers_to_nothing_is_refused(target: Database, tmp_path: Path) -> None:
    """A row that refers to a missing row is refused before the commit."""
    lines = a_dump()
    lines[0]["rows"]["adapters"] = 1
    lines += [{"table": "adapters", "columns": {"name": "plain"}}, ["elsewhere"]]
    with pytest.raises(ReferencesBroken, match="adapters refer to missing rows of names"):
        restore(target, _written(tmp_path / "bad.gz", lines))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_dump_that_was_cut_off_is_refused(
    sqlite_database: Database, target: Database, tmp_path: Path, share: float
) -> None:
    """A truncated dump is refused at every length."""
    dump(sqlite_database, tmp_path / "d.gz")
    data = (tmp_path / "d.gz").read_bytes()
    (tmp_path / "cut.gz").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DumpInvalid):
        restore(target, tmp_path / "cut.gz")


@pytest.mark.parametrize(
    "content",
    [
        b"no gzip",
        *(gzip.compress(data, mtime=0) for data in (b"{", b"\xff\xfe", b"[" * 100_000)),
    ],
)
def test_any_other_file_is_refused(target: Database, tmp_path: Path, content: bytes) -> None:
    """Text, broken JSON, bytes and deep nesting are refused without a traceback."""
    (tmp_path / "d.gz").write_bytes(content)
    with pytest.raises(DumpInvalid, match="Line 1"):
        restore(target, tmp_path / "d.gz")


def test_a_line_without_an_end_is_not_read_to_its_end(
    target: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long line is refused, because a small file can decompress to gigabytes."""
    monkeypatch.setattr("registry.upkeep.restore._MAX_LINE", 1000)
    lines = [json.dumps(line) for line in a_dump()]
    (tmp_path / "d.gz").write_bytes(gzip.compress("\n".join([*lines, "[" * 1000]).encode()))
    with pytest.raises(DumpInvalid, match=r"Line 4 .*the line is too long"):
        restore(target, tmp_path / "d.gz")


def test_a_database_that_cannot_be_reached_is_a_clear_error(
    sqlite_database: Database, tmp_path: Path
) -> None:
    """The error names a file that blocks the new database."""
    dump(sqlite_database, tmp_path / "d.gz")
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseUnavailable, match="file"):
        restore(Database(f"sqlite:///{tmp_path / 'file' / 'weft.db'}"), tmp_path / "d.gz")
