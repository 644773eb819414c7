"""Is this folder a LoRA adapter that can be served on that base? One pass, every finding at once.

Covered: everything that `merge.peft_format` checks, which base the adapter is for, its modules
against the base's shapes, finite numbers, the norm of the update, what else lies in the folder, and
what the operator requires. Not covered: what the adapter does to answers (the probe). The folder
must not change meanwhile. Every finding's code is in `registry.admission.findings`.
"""

import difflib
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from merge.peft_format import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    AdapterFolder,
    LoraModule,
    inspect_folder,
)
from merge.peft_format.names import PREFIX
from registry.admission.base import find_base, hold_against, plain
from registry.admission.card import CARD_NAME, Card, read_card
from registry.admission.findings import bounded, finding, graded
from registry.admission.foreign import foreign_format, load_raw, target_note
from registry.admission.norms import NotFiniteError, update_norm
from registry.bases import is_embedding
from registry.types import AdapterFacts, AdmissionReport, Base, Finding, ModuleFacts

# Grams of more than this would no longer fit in memory that a stranger may claim.
MAX_RANK = 2048
VANISHING_NORM = 1e-6
# No module is too large to read one at a time, but a registry should not have to find out.
MAX_BYTES = 4 * 2**30
_MAX_NAMED_FILES = 10
_PICKLES = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
RequiredField: TypeAlias = Literal["base", "card", "licence"]


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """What an operator may choose.

    `norm_limit` and `norm_minimum` bound the Frobenius norm of the whole scaled update (the gate of
    the 960-adapter pool of arXiv 2602.12323 was 1 < norm ≤ 1000; no minimum by default).
    `max_rank` is what the engines can load; None is 2048. `max_bytes` bounds the weights file.
    `licences` are those allowed, in lower case (empty: any, also none). `required` names what an
    adapter must say of itself: its base in the config, a card, the card's licence.
    """

    norm_limit: float = 1000.0
    norm_minimum: float = 0.0
    max_rank: int | None = None
    max_bytes: int = MAX_BYTES
    licences: frozenset[str] = frozenset()
    required: frozenset[RequiredField] = frozenset()


def admit(
    path: Path, base: Base | None, policy: AdmissionPolicy, *, known: Sequence[Base] = ()
) -> AdmissionReport:
    """Examine the adapter folder `path`; nothing is written and no pickle is opened.

    Args:
        path: the folder.
        base: the base that the adapter is said to be for, or None to go by its config and card.
        policy: the limits.
        known: the bases among which the config's is looked for when `base` is None.

    Raises:
        OSError: something in the folder cannot be read.
    """
    findings = list(_other_files(path))
    oversize = _size_finding(path, policy.max_bytes)
    if oversize is not None:
        return AdmissionReport(None, bounded([*findings, oversize]), None, None)
    folder, problems = inspect_folder(path)
    findings += (graded(problem) for problem in problems)
    card, raw = read_card(path), load_raw(path)
    if folder is None:
        return AdmissionReport(None, bounded([*findings, *foreign_format(raw)]), None, None)
    said = folder.config.base
    findings += _required(policy, said, card)
    if base is None:
        base, found = find_base(said, card.base, known)
    else:
        found = hold_against(said, card.base, base)
    findings += [*found, *target_note(raw, folder.modules), *_prefix_note(folder)]
    limit = min(policy.max_rank or MAX_RANK, MAX_RANK)
    for module in folder.modules.values():
        findings += _module_findings(module, base, limit)
    facts, found = _measure(folder, policy, limit)
    findings += found
    return AdmissionReport(None if base is None else base.name, bounded(findings), facts, folder)


def _size_finding(path: Path, limit: int) -> Finding | None:
    weights = path / WEIGHTS_NAME
    size = weights.stat().st_size if weights.is_file() and not weights.is_symlink() else 0
    if size <= limit:
        return None
    return finding("A072 too-large", WEIGHTS_NAME, f"at most {limit} bytes", f"{size} bytes")


def _other_files(path: Path) -> Iterator[Finding]:
    """What lies beside config, weights and card is not opened; a link could lead anywhere."""
    entries = sorted(os.scandir(path), key=lambda entry: entry.name) if path.is_dir() else []
    for entry in entries:
        if entry.is_symlink():
            expected = "regular files only"
            yield finding("A061 symlink", ascii(entry.name), expected, "a symbolic link")
    others = [e.name for e in entries if e.name not in (CONFIG_NAME, WEIGHTS_NAME, CARD_NAME)]
    pickles = [name for name in others if Path(name).suffix.lower() in _PICKLES]
    plain_files = [name for name in others if name not in set(pickles)]
    for code, names in (("A062 pickles-beside", pickles), ("A060 other-files", plain_files)):
        if names:
            more = len(names) - _MAX_NAMED_FILES
            tail = f" and {more} more" if more > 0 else ""
            shown = ", ".join(map(ascii, names[:_MAX_NAMED_FILES]))
            found = f"others, which were not opened{tail}"
            yield finding(code, shown, "config, weights and card", found)


def _required(policy: AdmissionPolicy, said: str | None, card: Card) -> Iterator[Finding]:
    """Hold what an adapter says of itself against what the operator wants to be told."""
    has = {"base": said, "card": card.text, "licence": card.licence}
    for field in sorted(policy.required):
        if not has[field]:
            file = CONFIG_NAME if field == "base" else CARD_NAME
            yield finding("A071 field-missing", file, f"a {field}, as this registry wants", "none")
    if policy.licences and (card.licence or "").lower() not in policy.licences:
        expected = f"a licence among {', '.join(sorted(policy.licences))}"
        yield finding("A070 licence-refused", CARD_NAME, expected, card.licence or "none")


def _prefix_note(folder: AdapterFolder) -> Iterator[Finding]:
    doubled = [m.a.name for m in folder.modules.values() if m.a.name.startswith(PREFIX * 2)]
    if doubled:
        found = f"it twice in {len(doubled)} modules"
        yield finding(
            "A022 doubled-prefix", WEIGHTS_NAME, f"{PREFIX} once", found, doubled[0][:200]
        )


def _module_findings(module: LoraModule, base: Base | None, limit: int) -> Iterator[Finding]:
    def refuse(code: str, expected: str, found: str, tensor: str) -> Finding:
        return finding(code, WEIGHTS_NAME, expected, found, tensor)

    if module.rank > limit:
        yield refuse("A043 rank-limit", f"a rank of at most {limit}", str(module.rank), module.name)
    kind = "embedding" if is_embedding(module.name) else "linear"
    if module.kind != kind:
        yield refuse("A042 module-kind", f"a pair of {kind} factors", module.kind, module.a.name)
    if base is None:
        return
    shape = base.shapes.get(module.name)
    if shape is None:
        near = difflib.get_close_matches(module.name, base.shapes, n=1)
        expected = f"a module of {base.name}" + (f", such as {near[0]}" if near else "")
        yield refuse("A040 module-unknown", expected, "a name that it does not have", module.name)
        return
    for entry, size, position, wanted in (
        (module.a, module.d_in, 1, (module.rank, shape[1])),
        (module.b, module.d_out, 0, (shape[0], module.rank)),
    ):
        if size != wanted[position]:
            expected = f"{wanted}, as {base.name} needs"
            yield refuse("A041 module-shape", expected, str(entry.shape), entry.name)


def _measure(
    folder: AdapterFolder, policy: AdmissionPolicy, rank_limit: int
) -> tuple[AdapterFacts, list[Finding]]:
    norms: dict[str, float] = {}
    findings: list[Finding] = []
    with folder.weights_path.open("rb") as file:
        for module in folder.modules.values():
            if module.rank > rank_limit:
                continue
            try:
                norms[module.name] = update_norm(file.fileno(), module)
            except NotFiniteError as error:
                expected, found = "finite numbers", "NaN or infinity"
                findings.append(
                    finding("A050 not-finite", WEIGHTS_NAME, expected, found, error.tensor)
                )
    norm = math.hypot(*norms.values()) if len(norms) == len(folder.modules) else None
    if norm is not None:
        findings += _norm_findings(norm, policy)
    return _facts(folder, norms, norm), findings


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


def _facts(folder: AdapterFolder, norms: dict[str, float], norm: float | None) -> AdapterFacts:
    config = folder.config
    modules = {
        name: ModuleFacts(m.rank, m.d_in, m.d_out, config.module(name).alpha, m.kind)
        for name, m in folder.modules.items()
    }
    return AdapterFacts(
        rank=folder.rank,
        modules=modules,
        use_rslora=config.use_rslora,
        dtypes=folder.dtypes,
        bytes=folder.weights_path.stat().st_size,
        norms=norms,
        norm=norm,
        base_said=None if config.base is None else plain(config.base),
    )
