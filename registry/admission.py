"""Is this folder a LoRA adapter that can be served on that base? One pass, every finding at once.

Covered: everything that `merge.peft_format` checks, which base the adapter is for, its modules
against the base's shapes, finite numbers, the norm of the update, and what else lies in the folder.
Not covered: what the adapter does to answers, and licences. The folder must not change meanwhile.

Codes, beside those of `merge.peft_format` (A001 to A021):
    A030 base-unknown       A040 module-unknown   A050 not-finite       A060 other-files
    A031 base-mismatch      A041 module-shape     A051 norm-limit       A061 symlink
    A032 base-not-named     A042 module-kind      A052 zero-update
    A033 base-quantised     A043 rank-limit       A053 vanishing-norm
"""

import difflib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from merge.peft_format import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    AdapterFolder,
    LoraModule,
    Problem,
    inspect_folder,
)
from registry.bases import base_key, canonical_base, is_embedding, quantised_note
from registry.card import CARD_NAME
from registry.norms import NotFiniteError, update_norm
from registry.types import (
    AdapterFacts,
    AdmissionReport,
    Base,
    Finding,
    ModuleFacts,
    Severity,
)

# Grams of more than this would no longer fit in memory that a stranger may claim.
MAX_RANK = 2048
VANISHING_NORM = 1e-6
_MAX_NAMED_FILES = 10
_MAX_SAID = 300


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """What an operator may choose.

    `norm_limit` bounds the Frobenius norm of the whole scaled update (1,000 was the gate of the
    960-adapter pool of arXiv 2602.12323). `max_rank` is what the engines can load; None is 2048.
    """

    norm_limit: float = 1000.0
    max_rank: int | None = None


def admit(
    path: Path, base: Base | None, policy: AdmissionPolicy, *, known: Sequence[Base] = ()
) -> AdmissionReport:
    """Examine the adapter folder `path`; nothing is written and no pickle is opened.

    Args:
        path: the folder.
        base: the base that the adapter is said to be for, or None to go by its config.
        policy: the limits.
        known: the bases among which the config's is looked for when `base` is None.

    Raises:
        OSError: something in the folder cannot be read.
    """
    findings = list(_other_files(path))
    folder, problems = inspect_folder(path)
    findings += (Finding("refuse", problem) for problem in problems)
    if folder is None:
        return AdmissionReport(None, tuple(findings), None, None)
    if base is None:
        base, found = _base_by_config(folder.config.base, known)
    else:
        found = _held_against(folder.config.base, base)
    findings += found
    limit = min(policy.max_rank or MAX_RANK, MAX_RANK)
    for module in folder.modules.values():
        findings += _module_findings(module, base, limit)
    facts, found = _measure(folder, policy.norm_limit, limit)
    return AdmissionReport(None if base is None else base.name, (*findings, *found), facts, folder)


def _finding(
    severity: Severity, code: str, file: str, expected: str, found: str, tensor: str | None = None
) -> Finding:
    return Finding(severity, Problem(code, file, expected, found, tensor))


def _other_files(path: Path) -> Iterator[Finding]:
    """What lies beside config, weights and card is not opened; a link could lead anywhere."""
    entries = sorted(os.scandir(path), key=lambda entry: entry.name) if path.is_dir() else []
    for entry in entries:
        if entry.is_symlink():
            expected = "regular files only"
            yield _finding("refuse", "A061 symlink", ascii(entry.name), expected, "a symbolic link")
    others = [
        ascii(e.name) for e in entries if e.name not in (CONFIG_NAME, WEIGHTS_NAME, CARD_NAME)
    ]
    if others:
        more = len(others) - _MAX_NAMED_FILES
        tail = f" and {more} more" if more > 0 else ""
        found = f"others, which were not opened{tail}"
        names = ", ".join(others[:_MAX_NAMED_FILES])
        yield _finding("note", "A060 other-files", names, "config, weights and card", found)


def _base_by_config(said: str | None, known: Sequence[Base]) -> tuple[Base | None, list[Finding]]:
    """Find the base that the config names."""
    if said is not None:
        for base in known:
            if base_key(said) in base.keys:
                return base, _quantised(said)
    if said is None or canonical_base(said) is None:
        found = "none" if said is None else f"the path {_plain(said)}"
        expected = "base_model_name_or_path that names a base; say which one with --base"
        return None, [_finding("refuse", "A032 base-not-named", CONFIG_NAME, expected, found)]
    names = ", ".join(base.name for base in known) or "none is registered"
    expected = f"a known base ({names}); if it is one of these, say which with --base"
    return None, [_finding("refuse", "A030 base-unknown", CONFIG_NAME, expected, _plain(said))]


def _held_against(said: str | None, base: Base) -> list[Finding]:
    """Hold the config's base against the one that was asked for."""
    if said is not None and base_key(said) in base.keys:
        return _quantised(said)
    if said is None or canonical_base(said) is None:
        found = "none" if said is None else f"the path {_plain(said)}"
        expected = f"a base's name; {base.name} was given instead"
        return [_finding("note", "A032 base-not-named", CONFIG_NAME, expected, found)]
    expected = f"{base.name}, which was asked for, or one of its aliases"
    return [_finding("refuse", "A031 base-mismatch", CONFIG_NAME, expected, _plain(said))]


def _quantised(said: str) -> list[Finding]:
    note = quantised_note(said)
    if note is None:
        return []
    return [
        _finding(
            "note", "A033 base-quantised", CONFIG_NAME, "a base in full precision",
            f"training on a quantised copy ({note})",
        )
    ]  # fmt: skip


def _plain(said: str) -> str:
    """A stranger's text, safe to print and to store."""
    return "".join(c if c.isprintable() else "?" for c in said[:_MAX_SAID])


def _module_findings(module: LoraModule, base: Base | None, limit: int) -> Iterator[Finding]:
    def refuse(code: str, expected: str, found: str, tensor: str) -> Finding:
        return _finding("refuse", code, WEIGHTS_NAME, expected, found, tensor)

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
    folder: AdapterFolder, norm_limit: float, rank_limit: int
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
                findings.append(
                    _finding(
                        "refuse", "A050 not-finite", WEIGHTS_NAME, "finite numbers",
                        "NaN or infinity", error.tensor,
                    )
                )  # fmt: skip
    norm = math.hypot(*norms.values()) if len(norms) == len(folder.modules) else None
    if norm is not None:
        findings += _norm_findings(norm, norm_limit)
    return _facts(folder, norms, norm), findings


def _norm_findings(norm: float, limit: float) -> list[Finding]:
    found = f"{norm:.4g}"
    if norm > limit:
        expected = f"an overall scaled norm of at most {limit:g}"
        return [_finding("refuse", "A051 norm-limit", WEIGHTS_NAME, expected, found)]
    if norm == 0:
        expected = "an update that changes something"
        return [_finding("warn", "A052 zero-update", WEIGHTS_NAME, expected, "zero everywhere")]
    if norm < VANISHING_NORM:
        expected = f"an overall scaled norm of at least {VANISHING_NORM:g}"
        return [_finding("note", "A053 vanishing-norm", WEIGHTS_NAME, expected, found)]
    return []


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
        base_said=None if config.base is None else _plain(config.base),
    )
