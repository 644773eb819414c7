"""Check whether a folder is a LoRA adapter that can be served; report all findings at once.

Covered: the checks of `merge.peft_format`, the adapter's base, its modules against the base's
shapes, finite numbers, the norm of the update, the other files of the folder, and the operator's
requirements. A finding in one part does not stop the checks of the others, and one cause is one
finding. Not covered: the effect of the adapter on answers (the probe). The folder must not change
during the check. `registry.admission.findings` lists every code.
"""

import difflib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from merge.peft_format import (
    CONFIG_NAME,
    PICKLED_WEIGHTS,
    WEIGHTS_NAME,
    AdapterFolder,
    FactorPair,
    Inspection,
    Problem,
    TensorEntry,
    inspect_folder,
    one_per_cause,
)
from merge.peft_format.names import PREFIX
from registry.admission.base import examine_base, plain
from registry.admission.card import CARD_NAME, Card, read_card
from registry.admission.findings import bounded, finding, graded
from registry.admission.foreign import (
    foreign_format,
    load_raw,
    lora_dropout,
    named_base,
    peft_version,
    target_note,
    task_note,
)
from registry.admission.norms import NotFiniteError, PairNorms, pair_norms
from registry.admission.tokenizer import TOKENIZER_FILES, read_tokenizer, tokenizer_findings
from registry.bases import is_embedding
from registry.types import AdapterFacts, AdmissionReport, Base, Finding, ModuleFacts

# Limits the memory for Gram matrices, which an untrusted file could otherwise choose.
MAX_RANK = 2048
VANISHING_NORM = 1e-6
# Modules are read one at a time, so this limits time and disk rather than memory.
MAX_BYTES = 4 * 2**30
_MAX_NAMED_FILES = 10
_UNKNOWN_MODULE = "A040 module-unknown"
_PICKLES = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
RequiredField: TypeAlias = Literal["base", "card", "licence"]


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """The operator's settings for admission.

    `norm_limit` and `norm_minimum` bound the Frobenius norm of the whole scaled update (the gate of
    the 960-adapter pool of arXiv 2602.12323 was 1 < norm ≤ 1000; no minimum by default).
    `factor_limit` bounds that of each factor, `b` with the scale: an engine multiplies by one
    factor at a time, and large ones may have a small product.
    `max_rank` is the largest rank that the engines load; None is 2048. `max_bytes` limits the
    weights file. `licences` are the allowed ones, in lower case (empty: any licence or none).
    `required` names what an adapter must state: its base in the config, a card, the card's licence.
    """

    norm_limit: float = 1000.0
    factor_limit: float = 1e4
    norm_minimum: float = 0.0
    max_rank: int | None = None
    max_bytes: int = MAX_BYTES
    licences: frozenset[str] = frozenset()
    required: frozenset[RequiredField] = frozenset()


class Admit(Protocol):
    """A way to run `admit`, perhaps in another process."""

    def __call__(
        self, path: Path, base: Base | None, policy: AdmissionPolicy, *, known: Sequence[Base] = ()
    ) -> AdmissionReport:
        """See `admit`."""


def admit(
    path: Path, base: Base | None, policy: AdmissionPolicy, *, known: Sequence[Base] = ()
) -> AdmissionReport:
    """Check the adapter folder `path` without writing anything or opening a pickle.

    Args:
        path: the folder.
        base: the base that the caller names, or None to use the one of config or card.
        policy: the limits.
        known: the bases to search for the config's base if `base` is None.

    Raises:
        OSError: a file in the folder cannot be read.
    """
    raw = load_raw(path)
    foreign = foreign_format(raw)
    if foreign is not None:  # the other findings would follow from this one
        return AdmissionReport(None, (foreign,), None, None)
    inspection = inspect_folder(path)
    oversize = _size_finding(path, policy.max_bytes)
    findings = [*_other_files(path), *map(graded, inspection.problems), *oversize]
    card = read_card(path)
    named = named_base(raw)
    if raw:
        base, about_base = examine_base(named, card.base, base, known)
        findings += [*_required(policy, named, card), *about_base, *task_note(raw)]
    findings += _prefix_note(inspection)
    if inspection.pairs and all(p.file != WEIGHTS_NAME for p in inspection.problems):
        findings += target_note(raw, inspection.pairs)
    limit = min(policy.max_rank or MAX_RANK, MAX_RANK)
    findings += _module_findings(inspection, base, limit)
    tokenizer = read_tokenizer(path)
    if base is not None:
        findings += tokenizer_findings(tokenizer, base)
    facts = None
    if not oversize:
        norms, norm, about_numbers = _measure(path, inspection, policy, limit)
        findings += about_numbers
        if inspection.folder is not None:
            facts = _facts(inspection.folder, norms, norm, raw, tokenizer.chat_template)
    return AdmissionReport(
        None if base is None else base.name, bounded(findings), facts, inspection.folder
    )


def _size_finding(path: Path, limit: int) -> list[Finding]:
    weights = path / WEIGHTS_NAME
    size = weights.stat().st_size if weights.is_file() and not weights.is_symlink() else 0
    if size <= limit:
        return []
    return [finding("A072 too-large", WEIGHTS_NAME, f"at most {limit} bytes", f"{size} bytes")]


def _other_files(path: Path) -> Iterator[Finding]:
    """Report links, which may leave the folder, and the files that admission does not open."""
    entries = sorted(os.scandir(path), key=lambda entry: entry.name) if path.is_dir() else []
    for entry in entries:
        if entry.is_symlink():
            expected = "regular files only"
            yield finding("A061 symlink", ascii(entry.name), expected, "a symbolic link")
    read = {CONFIG_NAME, WEIGHTS_NAME, CARD_NAME, *TOKENIZER_FILES}
    if not (path / WEIGHTS_NAME).exists():
        read |= set(PICKLED_WEIGHTS)  # the finding about missing weights names these
    others = [entry.name for entry in entries if entry.name not in read]
    pickles = [name for name in others if Path(name).suffix.lower() in _PICKLES]
    plain_files = [name for name in others if name not in set(pickles)]
    for code, names in (("A062 pickles-beside", pickles), ("A060 other-files", plain_files)):
        if names:
            more = len(names) - _MAX_NAMED_FILES
            tail = f" and {more} more" if more > 0 else ""
            shown = ", ".join(map(ascii, names[:_MAX_NAMED_FILES]))
            files = f"others, which were not opened{tail}"
            yield finding(code, shown, "config, weights and card", files)


def _required(policy: AdmissionPolicy, named: str | None, card: Card) -> Iterator[Finding]:
    """Compare what an adapter states about itself with what the operator requires."""
    stated = {"base": named, "card": card.text, "licence": card.licence}
    for field in sorted(policy.required):
        if not stated[field]:
            file = CONFIG_NAME if field == "base" else CARD_NAME
            expected = f"a {field}, which this registry requires"
            yield finding("A071 field-missing", file, expected, "none")
    if policy.licences and (card.licence or "").lower() not in policy.licences:
        expected = f"a licence among {', '.join(sorted(policy.licences))}"
        yield finding("A070 licence-refused", CARD_NAME, expected, card.licence or "none")


def _prefix_note(inspection: Inspection) -> Iterator[Finding]:
    names = [pair.a.name for pair in inspection.pairs.values()]
    doubled = [name for name in names if name.startswith(PREFIX * 2)]
    if doubled:
        count = f"it twice in {len(doubled)} modules"
        yield finding(
            "A022 doubled-prefix", WEIGHTS_NAME, f"{PREFIX} once", count, doubled[0][:200]
        )


def _module_findings(inspection: Inspection, base: Base | None, limit: int) -> list[Finding]:
    problems: list[Problem] = []
    for pair in inspection.pairs.values():
        problems += _pair_problems(pair, base, limit)
    for copy in inspection.base_copies:
        problems.append(_copy_problem(copy, base))
    return [graded(_suggesting(problem, base)) for problem in one_per_cause(problems)]


def _suggesting(problem: Problem, base: Base | None) -> Problem:
    """Name a near module in a problem about an unknown one.

    Only here, after the problems of one cause became one: each search takes milliseconds, and a
    file can hold thousands of unknown modules.
    """
    if problem.code != _UNKNOWN_MODULE or base is None or problem.tensor is None:
        return problem
    near = difflib.get_close_matches(problem.tensor, base.shapes, n=1)
    return replace(problem, expected=f"{problem.expected}, such as {near[0]}") if near else problem


def _pair_problems(pair: FactorPair, base: Base | None, limit: int) -> Iterator[Problem]:
    def wrong(code: str, expected: str, found: str, tensor: str) -> Problem:
        return Problem(code, WEIGHTS_NAME, expected, found, tensor)

    if pair.rank > limit:
        yield wrong("A043 rank-limit", f"a rank of at most {limit}", str(pair.rank), pair.name)
    kind = "embedding" if is_embedding(pair.name) else "linear"
    if pair.kind != kind:
        yield wrong("A042 module-kind", f"a pair of {kind} factors", pair.kind, pair.a.name)
    if base is None:
        return
    shape = base.shapes.get(pair.name)
    if shape is None:
        expected, found = f"a module of {base.name}", "a name that it does not have"
        yield wrong(_UNKNOWN_MODULE, expected, found, pair.name)
        return
    for entry, size, position, wanted in (
        (pair.a, pair.d_in, 1, (pair.rank, shape[1])),
        (pair.b, pair.d_out, 0, (shape[0], pair.rank)),
    ):
        if size != wanted[position]:
            expected = f"{wanted}, as {base.name} needs"
            yield wrong("A041 module-shape", expected, str(entry.shape), entry.name)


def _copy_problem(copy: TensorEntry, base: Base | None) -> Problem:
    """Report a copy of the base's embedding or head; the copy is dropped unless it was resized."""
    module = copy.name.removesuffix(".base_layer.weight")
    module = module.replace(PREFIX, "")
    shape = None if base is None else base.shapes.get(module)
    if shape is not None and is_embedding(module):
        shape = shape[::-1]  # the weight is (vocabulary, width), the update (width, vocabulary)
    if shape is not None and shape != copy.shape:
        expected = f"{shape}, as {base and base.name} has: train without new tokens"
        found = f"{copy.shape}, as of a resized vocabulary"
        return Problem("A026 whole-layer", WEIGHTS_NAME, expected, found, copy.name[:200])
    found = f"a copy of the base's layer ({copy.end - copy.begin} bytes), which is dropped"
    return Problem("A028 base-copy", WEIGHTS_NAME, "LoRA factors", found, copy.name[:200])


def _measure(
    path: Path, inspection: Inspection, policy: AdmissionPolicy, rank_limit: int
) -> tuple[dict[str, float], float | None, list[Finding]]:
    """Return the norm of every module, the total norm, and the findings about the numbers.

    The total norm is None if a module of the file has no norm.
    """
    norms: dict[str, float] = {}
    problems: list[Problem] = []
    large: list[Problem] = []
    measurable = [pair for pair in inspection.pairs.values() if pair.rank <= rank_limit]
    if not measurable:
        return norms, None, []
    with (path / WEIGHTS_NAME).open("rb") as file:
        for pair in measurable:
            try:
                pair_norm = pair_norms(file.fileno(), pair.a, pair.b)
            except NotFiniteError as error:
                expected, found = "finite numbers", "NaN or infinity"
                problems.append(
                    Problem("A050 not-finite", WEIGHTS_NAME, expected, found, error.tensor)
                )
                continue
            if pair.name in inspection.modules:
                scale = inspection.modules[pair.name].scale
                norms[pair.name] = scale * pair_norm.product
                large += _factor_problems(pair, pair_norm, scale, policy.factor_limit)
    findings = [graded(problem) for problem in one_per_cause(problems)]
    if len(norms) < len(inspection.pairs):
        return norms, None, findings
    whole = math.hypot(*norms.values())
    if whole <= policy.norm_limit:  # above it one cause would be two findings
        findings += [graded(problem) for problem in one_per_cause(large)]
    return norms, whole, [*findings, *_norm_findings(whole, policy)]


def _factor_problems(
    pair: FactorPair, norms: PairNorms, scale: float, limit: float
) -> Iterator[Problem]:
    for entry, norm in ((pair.a, norms.a), (pair.b, scale * norms.b)):
        if norm > limit:
            expected = f"a factor's scaled norm of at most {limit:g}"
            yield Problem("A055 factor-limit", WEIGHTS_NAME, expected, f"{norm:.4g}", entry.name)


def _norm_findings(norm: float, policy: AdmissionPolicy) -> Iterable[Finding]:
    whole, found = "an overall scaled norm of", f"{norm:.4g}"
    if norm > policy.norm_limit:
        expected = f"{whole} at most {policy.norm_limit:g}"
        yield finding("A051 norm-limit", WEIGHTS_NAME, expected, found)
    elif norm < policy.norm_minimum:
        expected = f"{whole} at least {policy.norm_minimum:g}"
        yield finding("A054 norm-minimum", WEIGHTS_NAME, expected, found)
    if norm == 0:
        expected = "an update that changes something"
        yield finding("A052 zero-update", WEIGHTS_NAME, expected, "zero everywhere")
    elif norm < VANISHING_NORM:
        expected = f"{whole} at least {VANISHING_NORM:g}"
        yield finding("A053 vanishing-norm", WEIGHTS_NAME, expected, found)


def _facts(
    folder: AdapterFolder,
    norms: dict[str, float],
    norm: float | None,
    raw: Mapping[str, object],
    chat_template: str | None,
) -> AdapterFacts:
    config = folder.config
    modules = {
        name: ModuleFacts(m.rank, m.d_in, m.d_out, config.module(name).alpha, m.kind)
        for name, m in folder.modules.items()
    }
    dropped = sum(copy.end - copy.begin for copy in folder.base_copies)
    return AdapterFacts(
        rank=folder.rank,
        modules=modules,
        use_rslora=config.use_rslora,
        dtypes=folder.dtypes,
        bytes=folder.weights_path.stat().st_size - dropped,
        norms=norms,
        norm=norm,
        base_said=None if config.base is None else plain(config.base),
        peft_version=peft_version(raw),
        lora_dropout=lora_dropout(raw),
        chat_template=chat_template,
    )
