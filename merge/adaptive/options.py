"""The options of a job: what each accepts, and its default.

The defaults are the papers': arXiv 2602.12323 for `recycle` and the fresh LoRA, arXiv 2307.13269
for `lorahub` (with the budget that the former gives it).
Not covered: the pool and the examples (`adapt`'s arguments).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self, get_args, get_type_hints

from merge.adaptive.patterns import PatternInvalid, compiled
from merge.errors import did_you_mean
from merge.methods.options import Count, Form, Kind, Positive, Seed, Share, kind_of

Method = Literal["recycle", "lorahub", "scale"]
Selection = Literal["evaluation", "random", "weights", "text"]
Granularity = Literal["adapter", "layer", "sublayer", "module", "rank"]
Activation = Literal["linear", "softmax", "sigmoid", "square", "leaky_relu"]
Initial = Literal["zero", "uniform", "normal", "root_k", "one_hot"]

MAX_K = 100
MAX_FOLDS = 20
_MAX_PATTERN = 1000


class OptionsInvalid(ValueError):
    """An unknown option, a value that is not accepted, or options that contradict each other."""


@dataclass(frozen=True, slots=True)
class Design:
    """The design of the coefficients: granularity, activation and initial values.

    Raises:
        OptionsInvalid: `square` starts at zero, where its gradient is zero.
    """

    granularity: Granularity = "module"
    activation: Activation = "leaky_relu"
    initial: Initial = "zero"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.activation == "square" and self.initial in ("zero", "one_hot"):
            raise OptionsInvalid(
                f"activation square has no gradient at the zeros of initial {self.initial}: "
                "use uniform, normal or root_k"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The value of every option of one job; `MEANINGS` documents each.

    Raises:
        OptionsInvalid: options that do not agree with each other.
    """

    method: Method = "recycle"
    k: tuple[int, ...] = (30,)
    selection: Selection = "evaluation"
    target: bool = True
    granularity: Granularity = "module"
    activation: Activation = "leaky_relu"
    initial: Initial = "zero"
    steps: Count = 100
    learning_rate: Positive = 5e-2
    batch_size: Count = 8
    warm_up: Share = 0.1
    evaluate_every: Count = 10
    l1: Share = 0.0
    budget: Count = 100
    bound: Positive = 1.5
    cross_terms: bool = False
    recipe: str | None = None
    static: str = "average"
    static_options: Mapping[str, Any] = field(default_factory=dict)
    fresh_rank: Count = 64
    fresh_alpha: Positive = 16.0
    fresh_dropout: Share = 0.1
    fresh_steps: Count = 400
    fresh_learning_rate: Positive = 3e-4
    reality_check: bool = True
    folds: int | None = None
    fold_hours: Positive = 1.0
    pattern: str | None = None
    longest_answer: Count = 64
    longest: int = 2048
    seed: Seed = 0

    def __post_init__(self) -> None:
        _ = self.design
        if self.longest < 2:
            raise _wrong("longest", "a whole number of at least 2", self.longest)
        if self.method == "scale" and len(self.k) > 1:
            raise OptionsInvalid("method scale takes one k: it learns one number of one recipe")
        if self.recipe is not None and self.method != "scale":
            raise OptionsInvalid(f"a recipe is for method scale; {self.method} makes its own")
        if self.cross_terms and self.method != "lorahub":
            raise OptionsInvalid(f"cross_terms is LoraHub's; method {self.method} has none")

    @property
    def design(self) -> Design:
        """The design of the coefficients."""
        return Design(self.granularity, self.activation, self.initial, self.seed)

    @property
    def targeted(self) -> bool:
        """Whether a fresh LoRA is merged: `scale` takes recipes as they are."""
        return self.target and self.method != "scale"

    @property
    def needs_fresh(self) -> bool:
        """Whether a fresh LoRA is trained at all."""
        return self.reality_check or self.targeted or self.selection == "weights"

    def check_validation(self) -> None:
        """Raise OptionsInvalid if folds were asked for beside validation examples."""
        if self.folds:
            raise OptionsInvalid(
                "option folds: a job measures on its validation examples if it has any: leave "
                "folds out, or the validation examples"
            )

    def to_json(self) -> dict[str, Any]:
        """Return every option by name as JSON values; `parse` is the inverse."""
        return {**asdict(self), "k": list(self.k), "static_options": dict(self.static_options)}

    @classmethod
    def parse(cls, raw: Mapping[str, object]) -> Self:
        """Return options from JSON values or text; what is left out keeps its default.

        Raises:
            OptionsInvalid: names the option, what it accepts, and near names.
        """
        known = [option.name for option in fields(cls)]
        for name in raw:
            if name not in known:
                near = did_you_mean(name, known)
                raise OptionsInvalid(
                    f"no option {name!r:.80}{near}; the options are {', '.join(known)}"
                )
        return cls(**{name: _parsed(name, value) for name, value in raw.items()})


# What each method learns.
LEARNED: Mapping[Method, str] = {
    "recycle": "one coefficient per adapter and module, by gradient descent (arXiv:2602.12323)",
    "lorahub": "one weight per adapter, without gradients (arXiv:2307.13269)",
    "scale": "one number: the scale of a static merge",
}
# What each option means, for the table in ADAPTIVE.md.
MEANINGS: Mapping[str, str] = {
    "method": "`recycle`, `lorahub` or `scale`",
    "k": "number of adapters in the merge, the fresh LoRA included; several are tried in turn",
    "selection": (
        "how members are chosen: `evaluation`, `random`, `weights` (closeness to the "
        "fresh LoRA) or `text`"
    ),
    "target": "train a fresh LoRA on the same examples and merge it too",
    "granularity": (
        "recycle: one coefficient per `adapter`, `layer`, `sublayer`, `module` or `rank`"
    ),
    "activation": (
        "recycle: what a coefficient goes through: `leaky_relu`, `linear`, `softmax`, "
        "`sigmoid` or `square`"
    ),
    "initial": "recycle: initial coefficients: `zero`, `uniform`, `normal`, `root_k` or `one_hot`",
    "steps": "recycle: steps of AdamW with a cosine schedule",
    "learning_rate": "recycle: peak learning rate",
    "batch_size": "examples per step, in every training of the job",
    "warm_up": "share of the steps in which the learning rate rises",
    "evaluate_every": "steps between evaluations; a killed job resumes from the last one",
    "l1": "recycle: weight of the penalty on the coefficients' absolute sum",
    "budget": "lorahub: evaluations of the loss",
    "bound": "lorahub: largest absolute weight",
    "cross_terms": "lorahub: merge factors instead of updates, as the original code does",
    "recipe": (
        "scale: the expression to scale, such as `lego(legal, sql; rank=16)`; its "
        "adapters are the pool"
    ),
    "static": "scale: the merge method when there is no recipe",
    "static_options": "scale: options of that method",
    "fresh_rank": "rank of the fresh LoRA, at most the engine's limit",
    "fresh_alpha": "alpha of the fresh LoRA",
    "fresh_dropout": "dropout of the fresh LoRA",
    "fresh_steps": "training steps of the fresh LoRA",
    "fresh_learning_rate": "peak learning rate of the fresh LoRA",
    "reality_check": "measure the controls beside the result",
    "folds": (
        "parts of the examples of which each is left out of one training and measured on; 0: none, "
        "twenty questions are spared; default: 5 if they fit `fold_hours`, else 0"
    ),
    "fold_hours": "hours that the trainings of folds may be predicted to take by default",
    "pattern": (
        "a regular expression of RE2: an answer is right when the pattern matches the same text "
        "in it and in the expected answer"
    ),
    "longest_answer": "largest number of tokens generated per answer",
    "longest": "largest number of tokens in an example; longer ones are refused",
    "seed": "seed of the split and of everything random",
}


def _parsed(name: str, value: object) -> Any:
    match name:
        case "k":
            return _numbers(value)
        case "static_options":
            if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
                raise _wrong(name, _FORMS[name].accepts, value)
            return dict(value)
        case "recipe" | "pattern" | "static":
            return _text(name, value)
        case "folds":
            return _folds(value)
    kind = _KINDS[name]
    try:
        return kind.parse(value)
    except (ValueError, OverflowError) as error:
        raise _wrong(name, kind.accepts, value) from error


def _numbers(value: object) -> tuple[int, ...]:
    """Return k: a number, a list of numbers, or text with commas."""
    expected = _FORMS["k"].accepts
    parts = value.split(",") if isinstance(value, str) else value
    listed: list[Any] = list(parts) if isinstance(parts, list | tuple) else [parts]
    try:
        numbers = tuple(int(item) for item in listed if not isinstance(item, bool))
    except (TypeError, ValueError, OverflowError) as error:
        raise _wrong("k", expected, value) from error
    good = len(numbers) == len(listed) == len(set(numbers)) and all(
        1 <= k <= MAX_K for k in numbers
    )
    # The last comparison refuses 2.5, of which int() makes 2.
    if not good or not numbers or [float(n) for n in listed] != [float(k) for k in numbers]:
        raise _wrong("k", expected, value)
    return tuple(sorted(numbers))


def _folds(value: object) -> int | None:
    """Return a number of folds, from a number or its digits; None for the default."""
    known = {str(folds): folds for folds in (0, *range(2, MAX_FOLDS + 1))}
    if value is not None and str(value) not in known:
        raise _wrong("folds", _FORMS["folds"].accepts, value)
    return None if value is None else known[str(value)]


def _text(name: str, value: object) -> str | None:
    if value is None and name != "static":
        return None
    if not isinstance(value, str) or not value:
        raise _wrong(name, _FORMS[name].accepts, value)
    if name == "pattern":
        _check_pattern(value)
    return value


def _check_pattern(pattern: str) -> None:
    if len(pattern) > _MAX_PATTERN:
        raise OptionsInvalid(f"pattern: at most {_MAX_PATTERN} characters")
    try:
        compiled(pattern)
    except PatternInvalid as error:
        raise OptionsInvalid(
            f"pattern: not a regular expression of RE2, which has neither lookaround nor "
            f"backreferences: {error}"
        ) from error


def _wrong(name: str, accepts: str, value: object) -> OptionsInvalid:
    return OptionsInvalid(f"option {name} takes {accepts}, not {value!r:.80}")


_TEXT = Form(type="text", accepts="a text")
# Of the options that no kind describes.
_FORMS: Mapping[str, Form] = {
    "k": Form(
        type="list", accepts=f"whole numbers from 1 to {MAX_K}, each once", minimum=1, maximum=MAX_K
    ),
    "recipe": _TEXT,
    "static": _TEXT,
    "static_options": Form(type="object", accepts="options of the static method, by name"),
    "folds": Form(
        type="integer", accepts=f"0, or a whole number from 2 to {MAX_FOLDS}", minimum=0,
        maximum=MAX_FOLDS,
    ),
    "pattern": _TEXT,
}  # fmt: skip


def form_of(name: str) -> Form:
    """Return what the option `name` accepts."""
    return _FORMS[name] if name in _FORMS else _KINDS[name].form


def method_of(name: str) -> Method | None:
    """Return the only method that has the option `name`, as its meaning says; None: all have it."""
    owner = MEANINGS[name].partition(": ")[0]
    return next((method for method in get_args(Method) if method == owner), None)


def _kinds() -> dict[str, Kind]:
    kinds = {}
    for name, annotation in get_type_hints(Options, include_extras=True).items():
        kind = kind_of(annotation)
        if kind is not None:
            kinds[name] = kind
    return kinds


_KINDS = _kinds()
