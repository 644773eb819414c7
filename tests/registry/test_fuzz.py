"""Untrusted headers, configs and names cause a report, not a traceback, and use little memory."""

import json
import multiprocessing
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.admission.admit import AdmissionPolicy, admit
from registry.admission.findings import CODES, MAX_FINDINGS
from registry.bases import base_keys
from registry.types import AdmissionReport, Base
from tests.registry import memory
from tests.registry.conftest import BASE, PREFIX, SHAPES, Q, config, tensors, write_adapter

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
KNOWN = Base(BASE, "LlamaForCausalLM", SHAPES, base_keys(BASE, ()))
MEGABYTE = 2**20
MEMORY_BYTES = 256 * 2**20

# Any JSON value; the numbers include values that are invalid as sizes.
_numbers = st.integers(-(2**70), 2**70) | st.floats() | st.integers(0, 40)
_leaves = st.none() | st.booleans() | _numbers | st.text(max_size=20)
_json = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
_modules = st.sampled_from([*list(SHAPES)[:5], "x", "", "a..b", "ä", "../x", "layers.0"])
_names = st.text(max_size=40) | st.builds(
    lambda prefix, module, tail: prefix + module + tail,
    st.sampled_from(["", PREFIX, PREFIX * 2, "base_model."]),
    _modules,
    st.sampled_from(
        [".lora_A.weight", ".lora_B.weight", ".lora_A.default.weight", ".lora_embedding_A",
         ".lora_embedding_B", ".lora_a", ".bias", "\0", ".lora_A.weight.absmax"]
    ),
)  # fmt: skip
_sizes = st.integers(0, 40) | st.sampled_from([-1, 2**31, 2**48, 2**63])
_entry = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "F8_E5M2", "C64"]) | _json,
        "shape": st.lists(_sizes, max_size=4) | _json,
        "data_offsets": st.lists(_sizes, min_size=2, max_size=2) | _json,
    },
)
_header = st.dictionaries(_names, _entry | _json, max_size=6) | _json
_key = st.sampled_from(
    [*config(), "bias", "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights",
     "modules_to_save", "use_dora", "lora_parameters", "fine_tune_type", "config", "model_class"]
) | st.text(max_size=12)  # fmt: skip
_patterns = st.dictionaries(_names | st.text(max_size=30), _numbers | _json, max_size=4)
_config = st.dictionaries(_key, _json | _patterns | _names, max_size=6)
_card = st.binary(max_size=60) | st.text(max_size=60).map(str.encode)


def _examine(folder: Path) -> AdmissionReport:
    """Check that a report has known codes, is JSON and is bounded, and return it."""
    report = admit(folder, None, AdmissionPolicy(), known=[KNOWN])
    text = json.dumps(report.to_json(), allow_nan=False)
    assert len(text) < MEGABYTE
    assert {finding.problem.code for finding in report.findings} <= set(CODES)
    assert len(report.findings) <= MAX_FINDINGS + 1
    assert report.accepted == all(finding.severity != "refuse" for finding in report.findings)
    return report


def _check(header: object, data: bytes, changes: dict[str, object], card: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_adapter(Path(scratch) / "a")
        if header is not None:
            raw = json.dumps(header).encode("utf-8", "surrogatepass")
            (folder / WEIGHTS).write_bytes(len(raw).to_bytes(8, "little") + raw + data)
        document = json.loads((folder / CONFIG).read_text()) | changes
        (folder / CONFIG).write_text(json.dumps(document))
        (folder / "README.md").write_bytes(b"---\nbase_model: " + card + b"\n---\n")
        _examine(folder)


_arguments: dict[str, Any] = {
    "header": st.none() | _header,
    "data": st.binary(max_size=64),
    "changes": _config,
    "card": _card,
}


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(**_arguments)
def test_whatever_arrives_ends_in_a_report(
    header: object, data: bytes, changes: dict[str, object], card: bytes
) -> None:
    """Headers, tensor names, configs and cards of any content cause a report."""
    _check(header, data, changes, card)


@pytest.mark.slow
@settings(max_examples=2_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(**_arguments)
def test_thousands_of_them_do(
    header: object, data: bytes, changes: dict[str, object], card: bytes
) -> None:
    """Many more headers, tensor names, configs and cards cause a report."""
    _check(header, data, changes, card)


# Files of one megabyte that are built to be costly.


def _padded(text: str) -> bytes:
    return text.encode().ljust(MEGABYTE, b" ")


def _with_header(text: str) -> tuple[str, bytes]:
    raw = _padded(text)
    return WEIGHTS, len(raw).to_bytes(8, "little") + raw


def _many(item: str, size: int) -> str:
    count = MEGABYTE // size - 1
    return "{" + ",".join(item % number for number in range(count)) + "}"


_PAIR = f'"{PREFIX}{Q}' + '%06d.lora_A.weight":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
LARGE: dict[str, tuple[str, bytes]] = {
    "a header of nested lists": _with_header("[" * MEGABYTE),
    "a header of nested objects": _with_header('{"a":' * (MEGABYTE // 5)),
    "a header of numbers": _with_header("[" + "1," * (MEGABYTE // 2 - 2) + "1]"),
    "a header of one number": _with_header('{"a":' + "9" * (MEGABYTE - 10) + "}"),
    "a header of one name": _with_header('{"' + "a" * (MEGABYTE - 10) + '":{}}'),
    "a header of many names": _with_header(_many('"%06d":1', 11)),
    "a header of many tensors": _with_header(_many(_PAIR, 150)),
    "a header of escapes": _with_header('{"' + "\\u0000" * (MEGABYTE // 6 - 4) + '":1}'),
    "zeros": (WEIGHTS, b"\0" * MEGABYTE),
    "a config of nested lists": (CONFIG, b"[" * MEGABYTE),
    "a config of many keys": (CONFIG, _many('"%06d":1', 11).encode()),
    "a config of many patterns": (
        CONFIG,
        json.dumps(config(rank_pattern={f"l{number}": 2 for number in range(60_000)})).encode(),
    ),
    "a config of many targets": (
        CONFIG, json.dumps(config(target_modules=[f"m{n}" for n in range(90_000)])).encode(),
    ),
    "a card of nothing but lists": ("README.md", b"---\nbase_model:\n" + b"- x\n" * 250_000),
}  # fmt: skip


COSTLY = "a config of many patterns"  # slow, because each pattern is compiled


def _peaks(cases: Sequence[str], root: Path) -> dict[str, int]:
    """Return the peak memory in bytes of one process after each case."""
    folders = []
    for number, case in enumerate(cases):
        folder = write_adapter(root / str(number), tensors(*list(SHAPES)[2:]))
        name, data = LARGE[case]
        (folder / name).write_bytes(data)
        folders.append(folder)
    context = multiprocessing.get_context("spawn")
    answers, sender = context.Pipe(duplex=False)
    child = context.Process(target=memory.peaks, args=(folders, KNOWN, sender))
    child.start()
    sender.close()
    peaks_by_case = {case: answers.recv() for case in cases}
    child.join()
    return peaks_by_case


@pytest.fixture(scope="module")
def peaks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """One process admits all cases, because its imports take longer than a case."""
    return _peaks([case for case in LARGE if case != COSTLY], tmp_path_factory.mktemp("large"))


@pytest.mark.parametrize("case", [case for case in LARGE if case != COSTLY])
def test_a_megabyte_costs_little_memory(peaks: dict[str, int], case: str) -> None:
    """The process uses less than 256 MB and returns a report."""
    assert peaks[case] < MEMORY_BYTES, f"{peaks[case] / 2**20:.0f} MiB"


@pytest.mark.slow
def test_a_megabyte_of_patterns_costs_little_memory(tmp_path: Path) -> None:
    """The process uses less than 256 MB although it compiles every pattern."""
    peak = _peaks([COSTLY], tmp_path)[COSTLY]
    assert peak < MEMORY_BYTES, f"{peak / 2**20:.0f} MiB"
