"""The retrieval table: its pools, and the part of it that must hold for the demo."""

from tests.lab.language import TASKS
from tests.lab.retrieval import FOREIGN, IN_WORDS, cards, rows


def test_a_prompt_that_names_an_adapter_finds_it() -> None:
    """Among the demo's adapters a name finds its adapter, and other prompts go to the base."""
    named, in_words, foreign = rows(len(TASKS), examples=True)
    assert (1.0, 0.0) == (named.right, named.base)
    assert (1.0, len(FOREIGN)) == (foreign.base, foreign.prompts)
    assert 3 * len(TASKS) == in_words.prompts


def test_a_pool_has_other_cards_of_the_same_form() -> None:
    """A pool has the demo's cards and others, none of them for a task of the demo."""
    pool = cards(40)
    assert list(TASKS) == [card.name for card in pool[: len(TASKS)]] == list(IN_WORDS)
    assert (40, 40) == (len(pool), len({card.name for card in pool}))
    descriptions = [task.description for task in TASKS.values()]
    for card in pool[len(TASKS) :]:
        assert not any(f"this: {one}. For" in card.card for one in descriptions)
    texts = {text for card in pool[: len(TASKS)] for text in card.examples}
    assert texts.isdisjoint(e.prompt for task in TASKS.values() for e in task.prompts(8, 2026))
