"""Write a question about one table as SQL, judged by what SQLite answers."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from server.cli.demo_marks import CITIES, ITEMS, SCHEMA, rows_of
from tests.lab.skills.skill import Example, Skill, Split, draw_of_split
from tests.lab.skills.world import Written, draw_date

INSTRUCTIONS = (
    f"Write SQL for {SCHEMA}",
    f"Write a SQL query on {SCHEMA}",
    f"Translate to SQL for {SCHEMA}",
)

# What is asked for, and its SQL.
SELECTIONS = (
    ("How many orders{} are there?", "SELECT COUNT(*) FROM orders{};"),
    ("What is the total price of orders{}?", "SELECT SUM(price) FROM orders{};"),
    ("What is the average price of orders{}?", "SELECT AVG(price) FROM orders{};"),
    ("What is the highest price of orders{}?", "SELECT MAX(price) FROM orders{};"),
    ("What is the total quantity of orders{}?", "SELECT SUM(quantity) FROM orders{};"),
    ("Which customers have orders{}?", "SELECT DISTINCT customer FROM orders{};"),
    ("List all orders{}.", "SELECT * FROM orders{};"),
    ("List the 3 dearest orders{}.", "SELECT * FROM orders{} ORDER BY price DESC LIMIT 3;"),
    ("List the 5 newest orders{}.", "SELECT * FROM orders{} ORDER BY day DESC LIMIT 5;"),
    ("Count the orders{} by city.", "SELECT city, COUNT(*) FROM orders{} GROUP BY city;"),
    ("Sum the prices of orders{} by item.", "SELECT item, SUM(price) FROM orders{} GROUP BY item;"),
)
WAYS_OF_DAYS = ((" since ", ">="), (" after ", ">"), (" before ", "<"))


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition in words and in SQL."""

    words: str
    sql: str


def draw_place(rng: Random) -> Condition:
    """A city."""
    city = rng.choice(CITIES)
    return Condition(f" from {city}", f"city = '{city}'")


def draw_goods(rng: Random) -> Condition:
    """An item."""
    item = rng.choice(ITEMS)
    return Condition(f" of {item}", f"item = '{item}'")


def draw_number(rng: Random) -> Condition:
    """A bound for the quantity or the price."""
    if rng.random() < 0.5:
        number = rng.randint(5, 60)
        return Condition(f" with quantity above {number}", f"quantity > {number}")
    number = 10 * rng.randint(5, 50)
    return Condition(f" with price below {number}", f"price < {number}")


def day_condition(rng: Random, day: Written, form: str) -> Condition:
    """A bound for the day, written in the question as `form` says: `iso` or `text`."""
    words, operator = rng.choice(WAYS_OF_DAYS)
    return Condition(f"{words}{getattr(day, form)}", f"day {operator} '{day.iso}'")


def draw_query(rng: Random, split: Split, day: Callable[[], Condition] | None) -> tuple[str, str]:
    """A question and its SQL, which finds something; `day` adds a condition on the day."""

    def draw() -> tuple[str, str]:
        question, query = rng.choice(SELECTIONS)
        makers = rng.sample((draw_goods, draw_place, draw_number), rng.choice((0, 1, 1, 2)))
        conditions = [make(rng) for make in makers]
        conditions += [day()] if day else []
        where = " AND ".join(condition.sql for condition in conditions)
        words = "".join(condition.words for condition in conditions)
        return question.format(words), query.format(f" WHERE {where}" if where else "")

    while True:
        asked = draw_of_split(draw, split, lambda pair: pair[1])
        if any(value is not None for row in rows_of(asked[1]) or () for value in row):
            return asked


def draw_sql(rng: Random, split: Split) -> Example:
    """A question; days in it are in ISO form, as the table has them."""
    day = draw_date(rng, split) if rng.random() < 0.4 else None
    question, query = draw_query(
        rng, split, (lambda: day_condition(rng, day, "iso")) if day else None
    )
    return Example(f"{rng.choice(INSTRUCTIONS)}: {question}", query)


SQL = Skill("sql", "English question → SQL, run in SQLite", draw_sql, "rows")
