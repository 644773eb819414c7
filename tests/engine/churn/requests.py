"""What is asked: 200 compositions of the demo's adapters, and names whose meaning changes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from tests.engine.gateway import ADAPTERS, BASE
from tests.lab.language import TASKS

COMPOSITIONS = 200
_PROMPTS_OF_EACH = 2
# Rank 16 keeps a merge to a fraction of a second, so that requests are many rather than long.
_FORMS = (
    "{a:.2f}*{x} + {b:.2f}*{y}",
    "cat({a:.2f}*{x}, {b:.2f}*{y})",
    "linear({a:.2f}*{x}, {b:.2f}*{y}, 0.20*{z}; rank=16)",
    "ties({x}, {y}, {z}; rank=16, density=0.5)",
    "dare_linear({x}, {y}; rank=16, density=0.7, seed={n})",
    "lego({x}, {y}; rank=12, seed={n})",
    "tsv({x}, {y}; rank=16, scale={a:.2f})",
    "slerp({x}, {y}; rank=16, t={t:.2f})",
)


def compositions(seed: int, count: int = COMPOSITIONS) -> list[str]:
    """Return so many different expressions."""
    rng = Random(seed)
    texts: dict[str, None] = {}
    while len(texts) < count:
        n = len(texts)
        x, y, z = rng.sample(ADAPTERS, 3)
        a, b, t = rng.uniform(0.4, 1.0), rng.uniform(0.2, 0.9), rng.uniform(0.2, 0.8)
        texts[_FORMS[n % len(_FORMS)].format(x=x, y=y, z=z, a=a, b=b, t=t, n=n)] = None
    return list(texts)


def prompts() -> list[str]:
    """Return a few held-out prompts of every skill."""
    return [
        example.prompt for name in ADAPTERS for example in TASKS[name].prompts(_PROMPTS_OF_EACH, 7)
    ]


@dataclass
class Moving:
    """An alias: the digests that it has named, in order.

    A request may be answered by what the alias named when the request began, or later.
    """

    model: str
    digests: list[str] = field(default_factory=list)
    settled: int = 0  # index of the digest that every new request gets


@dataclass
class Leaving:
    """A version that is published and will be retired: `retiring` from the request to do so."""

    model: str
    digest: str
    retiring: bool = False
    retired: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; `moving` or `leaving` says what its name may mean."""

    model: str
    prompt: str
    stream: bool
    moving: Moving | None = None
    leaving: Leaving | None = None


class Draw:
    """Draws requests: mostly compositions, some of them far more often than others."""

    def __init__(self, seed: int) -> None:
        self.moving: list[Moving] = []
        self.leaving: list[Leaving] = []
        self.digests: dict[str, str] = {}  # of each composition that was answered
        self._rng = Random(seed)
        self._expressions, self._prompts = compositions(seed), prompts()

    def ask(self) -> Ask:
        """Return the next request."""
        rng = self._rng
        prompt, stream, kind = rng.choice(self._prompts), rng.random() < 0.2, rng.random()
        if kind < 0.1 and self.moving:
            moving = rng.choice(self.moving)
            return Ask(moving.model, prompt, stream, moving=moving)
        if kind < 0.2 and self.leaving:
            leaving = rng.choice(self.leaving[-4:])
            form = rng.choice(("{}", "cat(0.9*{})"))
            return Ask(form.format(leaving.model), prompt, stream, leaving=leaving)
        if kind < 0.25:
            return Ask(BASE, prompt, stream)
        if kind < 0.35 and self.digests:
            return Ask(rng.choice(sorted(self.digests.values())), prompt, stream)
        return Ask(self._composition(), prompt, stream)

    def _composition(self) -> str:
        texts: Sequence[str] = self._expressions
        popular = self._rng.random() < 0.4
        return self._rng.choice(texts[: len(texts) // 20] if popular else texts)
