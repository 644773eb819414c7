"""How the demo judges an answer: SQL by the rows it finds, JSON and tables by their values.

The lab marks its skills by the same functions, and its questions are about the same table.
"""

import json
import sqlite3
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from functools import cache

CITIES = tuple(
    "Bath Bristol Cambridge Cardiff Chester Derby Dover Durham Exeter Glasgow Hull Leeds Lincoln"
    " Liverpool London Luton Norwich Oxford Perth Plymouth Reading Sheffield Swansea Truro"
    " York".split()
)
ITEMS = tuple(
    "bags bikes books boots chairs clocks coats cups desks doors fans forks hats keys lamps maps"
    " mirrors pans pens phones pillows plates radios ropes rugs shelves shirts tables tents"
    " towels".split()
)
FIRST_DAY, DAYS = date(2019, 1, 1), 2900
SCHEMA = "orders(customer, city, item, quantity, price, day)"
ORDERS = 401  # a prime number: the columns of the table follow no pattern of one another
_FORENAMES = "Ann Bob Cleo Dan Eve Finn Gina Hal Iris Jack".split()
_SURNAMES = "Abbott Barker Cole Dixon Ellis Frost".split()
_STEPS_ALLOWED = 1_000_000  # of SQLite's machine: a query that joins the table to itself ends
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}


def same_text(answer: str, expected: str) -> bool:
    """Whether an answer is the expected one, outer white space aside."""
    return answer.strip() == expected


def same_labels(answer: str, expected: str) -> bool:
    """Whether an answer has the expected labels, whatever the case."""
    return answer.strip().lower() == expected


def same_json(answer: str, expected: str) -> bool:
    """Whether an answer is JSON of the expected value."""
    try:
        return bool(json.loads(answer) == json.loads(expected))
    except (ValueError, RecursionError):
        return False


def same_table(answer: str, expected: str) -> bool:
    """Whether an answer is a Markdown table of the expected cells."""
    return answer.strip().startswith("|") and _cells(answer) == _cells(expected)


def same_rows(answer: str, expected: str) -> bool:
    """Whether two queries find the same rows, in the same order where one is asked for."""
    wanted, found = rows_of(expected), rows_of(answer.strip())
    if wanted is None or found is None:
        return False
    if "ORDER BY" in expected:
        return found == wanted
    return sorted(map(repr, found)) == sorted(map(repr, wanted))


# By the name that the demo's questions give.
MARKS: Mapping[str, Callable[[str, str], bool]] = {
    "text": same_text,
    "labels": same_labels,
    "json": same_json,
    "table": same_table,
    "rows": same_rows,
}


def rows_of(query: str) -> list[tuple[object, ...]] | None:
    """What SQLite answers to one query; None if it is no query or takes too long."""
    connection = _database()
    connection.set_progress_handler(lambda: 1, _STEPS_ALLOWED)
    try:
        return connection.execute(query).fetchall()
    except (sqlite3.Error, sqlite3.Warning):
        return None
    finally:
        connection.set_progress_handler(None, 0)


@cache
def _database() -> sqlite3.Connection:
    """The table in memory, the same in every process; answers can read it and nothing else."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.execute(f"CREATE TABLE {SCHEMA}")
    connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?)", [
        (f"{_FORENAMES[17 * i % ORDERS % 10]} {_SURNAMES[29 * i % ORDERS % 6]}",
         CITIES[53 * i % ORDERS % len(CITIES)], ITEMS[101 * i % ORDERS % len(ITEMS)],
         1 + 137 * i % ORDERS % 80, (500 + 21_773 * i % 59_500) / 100,
         str(FIRST_DAY + timedelta(days=1201 * i % DAYS)))
        for i in range(ORDERS)
    ])  # fmt: skip
    connection.set_authorizer(
        lambda action, *_: sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY
    )
    return connection


def _cells(text: str) -> list[list[str]]:
    """The cells of a table's lines, space around them aside; dashes of any length are alike."""
    lines = [line.strip().removeprefix("|").removesuffix("|") for line in text.strip().split("\n")]
    return [
        ["---" if cell.strip(" -:") == "" else cell.strip() for cell in line.split("|")]
        for line in lines
    ]
