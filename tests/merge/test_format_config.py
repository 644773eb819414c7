"""`adapter_config.json`: hostile, sloppy and unsupported files; PEFT's meaning of its keys."""

import inspect
import json
from pathlib import Path

import pytest
from peft import PeftModel
from peft.tuners.lora import conversion
from peft.utils.other import get_pattern_key

from merge.peft_format import AdapterConfig, FormatError
from merge.peft_format.config import MAX_CONFIG_BYTES, inspect_config
from tests.growth import cpu_seconds

PLAIN = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}


def write(path: Path, **keys: object) -> Path:
    """Write a plain config with these keys over it."""
    path.write_text(json.dumps(PLAIN | keys))
    return path


def read_config(path: Path) -> AdapterConfig:
    """Return the config of a file, or raise FormatError with every problem found in it."""
    config, problems = inspect_config(path)
    if config is None or problems:
        raise FormatError(problems)
    return config


def codes(path: Path) -> list[str]:
    """Return the codes of all problems of a config."""
    with pytest.raises(FormatError) as caught:
        read_config(path)
    return [problem.code.split()[0] for problem in caught.value.problems]


def test_scale_is_alpha_over_rank(tmp_path: Path) -> None:
    """Scale is alpha / r, and alpha / √r with rsLoRA."""
    assert 2.0 == read_config(write(tmp_path / "c")).module("m").scale
    stabilised = read_config(write(tmp_path / "c", use_rslora=True))
    assert stabilised.module("m").scale == pytest.approx(16 / 8**0.5)


@pytest.mark.parametrize(
    "pattern",
    [
        {"q_proj": 2}, {"model.layers.0.q_proj": 2}, {r"layers\.(0|1)\.q_proj": 2, "q_proj": 4},
        {"^model.*q_proj": 2}, {"0.q_proj": 2, ".*proj": 4}, {"proj": 2}, {"_proj": 2},
        {"layers.[01].q_proj": 3},
    ],
)  # fmt: skip
def test_patterns_match_as_in_peft(tmp_path: Path, pattern: dict[str, int]) -> None:
    """For every module, the rank is the one PEFT's own matching gives."""
    config = read_config(write(tmp_path / "c", rank_pattern=pattern))
    for name in ("model.layers.0.q_proj", "model.layers.10.q_proj", "model.layers.1.v_proj",
                 "q_proj", "model.q_projx"):  # fmt: skip
        expected = pattern.get(get_pattern_key(pattern.keys(), name), 8)
        assert expected == config.module(name).rank, name


def test_bom_and_crlf_are_read(tmp_path: Path) -> None:
    """A config with a byte order mark and CRLF line ends is read."""
    text = json.dumps(PLAIN, indent=1).replace("\n", "\r\n")
    (tmp_path / "c").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert 8 == read_config(tmp_path / "c").r


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b"[" * 100_000, b'{"r":' + b"1" * 5000 + b"}",
     b" " * (MAX_CONFIG_BYTES + 1)],
)  # fmt: skip
def test_broken_files_are_refused(tmp_path: Path, raw: bytes) -> None:
    """A file that is not a JSON object of reasonable size is refused as such."""
    (tmp_path / "c").write_bytes(raw)
    assert ["A010"] == codes(tmp_path / "c")


def test_deep_value_is_refused(tmp_path: Path) -> None:
    """A value nested nearly to the parser's limit is refused, and the message does not crash."""
    for depth in range(700, 1000, 10):
        (tmp_path / "c").write_text('{"peft_type":' + "[" * depth + "]" * depth + "}")
        assert set(codes(tmp_path / "c")) <= {"A010", "A011", "A012", "A013"}


def test_lfs_pointer_is_named(tmp_path: Path) -> None:
    """A Git LFS pointer in place of the config is reported as a Git LFS pointer."""
    (tmp_path / "c").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert ["A004"] == codes(tmp_path / "c")


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"peft_type": "LOHA"}, "A011"), ({"peft_type": None}, "A011"), ({"r": 0}, "A012"),
        ({"r": 8.0}, "A012"), ({"r": True}, "A012"), ({"r": None}, "A012"), ({"r": 2**16}, "A012"),
        ({"lora_alpha": None}, "A013"), ({"lora_alpha": 0}, "A013"), ({"lora_alpha": -1}, "A013"),
        ({"lora_alpha": "16"}, "A013"), ({"lora_alpha": float("nan")}, "A013"),
        ({"lora_alpha": 1e300}, "A013"), ({"use_rslora": "yes"}, "A010"),
        ({"rank_pattern": {"q": 0}}, "A015"), ({"rank_pattern": {"q": 2.5}}, "A015"),
        ({"rank_pattern": ["q"]}, "A015"), ({"alpha_pattern": {"q": -1}}, "A015"),
        ({"alpha_pattern": {"q(": 1}}, "A015"), ({"rank_pattern": {"q\n": 1}}, "A015"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused(tmp_path: Path, keys: dict[str, object], code: str) -> None:
    """A key with an invalid value is refused with its own code."""
    assert [code] == codes(write(tmp_path / "c", **keys))


@pytest.mark.parametrize(
    "keys",
    [
        {"r": 1}, {"r": 2**16 - 1}, {"lora_alpha": 1}, {"lora_alpha": 1e-3},
        {"lora_alpha": 999_999_999.5}, {"rank_pattern": {"q": 1}, "alpha_pattern": {"q": 0.5}},
        {"rank_pattern": {"a" * 200: 4}}, {"rank_pattern": {".*a+": 4}},
        {"rank_pattern": {f"a*{i}": 4 for i in range(16)}},
        {"rank_pattern": {f"a{i}": 4 for i in range(4096)}}, {"rank_pattern": None},
    ],
)  # fmt: skip
def test_values_within_the_limits_are_read(tmp_path: Path, keys: dict[str, object]) -> None:
    """The largest and the smallest value, and as many patterns as are allowed, are accepted."""
    config = read_config(write(tmp_path / "c", **keys))
    expected = {"r": config.r, "lora_alpha": config.alpha, "alpha_pattern": config.alpha_pattern,
                "rank_pattern": config.rank_pattern or None}  # fmt: skip
    assert keys == {key: expected[key] for key in keys}


@pytest.mark.parametrize(
    "keys",
    [
        {"lora_alpha": 1e9}, {"rank_pattern": {".*a+b*": 4}},
        {"rank_pattern": {f"a*{i}": 4 for i in range(17)}},
        {"rank_pattern": {f"a{i}": 4 for i in range(4097)}},
    ],
)  # fmt: skip
def test_values_just_over_a_limit_are_refused(tmp_path: Path, keys: dict[str, object]) -> None:
    """An alpha of a billion, three quantifiers, 17 patterns and 4097 names are too much."""
    assert codes(write(tmp_path / "c", **keys)) in (["A013"], ["A015"])


def test_a_file_of_the_size_limit_is_read(tmp_path: Path) -> None:
    """A config of exactly the size limit is read."""
    (tmp_path / "c").write_text(json.dumps(PLAIN).ljust(MAX_CONFIG_BYTES))
    assert PLAIN["r"] == read_config(tmp_path / "c").r


@pytest.mark.parametrize(("base", "expected"), [("b", "b"), ("", None), (None, None), (1, None)])
def test_a_base_is_a_text_or_nothing(tmp_path: Path, base: object, expected: str | None) -> None:
    """A base that is empty or not a text is not stated."""
    assert expected == read_config(write(tmp_path / "c", base_model_name_or_path=base)).base


def test_missing_alpha_is_refused(tmp_path: Path) -> None:
    """Alpha is never guessed: a config without it is refused."""
    (tmp_path / "c").write_text(json.dumps({k: v for k, v in PLAIN.items() if k != "lora_alpha"}))
    assert ["A013"] == codes(tmp_path / "c")


@pytest.mark.parametrize(
    "keys",
    [
        {"use_dora": True}, {"bias": "all"}, {"bias": "lora_only"}, {"lora_bias": True},
        {"modules_to_save": ["lm_head"]}, {"layer_replication": [[0, 2]]},
        {"trainable_token_indices": [1]}, {"alora_invocation_tokens": [1]},
        {"target_parameters": ["experts.w1"]}, {"init_lora_weights": "pissa"},
        {"init_lora_weights": "pissa_niter_4"}, {"init_lora_weights": "olora"},
        {"init_lora_weights": "loftq"}, {"init_lora_weights": "corda"}, {"use_qalora": True},
        {"init_lora_weights": "lora_ga"}, {"arrow_config": {"top_k": 3}},
        {"invented_in_2031": {"power": 3}},
    ],
)  # fmt: skip
def test_unsupported_features_are_named(tmp_path: Path, keys: dict[str, object]) -> None:
    """A feature that changes what factors compute is refused, naming its key."""
    path = write(tmp_path / "c", **keys)
    assert ["A014"] == codes(path)
    with pytest.raises(FormatError, match=next(iter(keys))):
        read_config(path)


@pytest.mark.parametrize("value", [None, False, [], {}, 0, ""])
def test_unset_unknown_keys_are_fine(tmp_path: Path, value: object) -> None:
    """An unknown key that is null, false or empty is ignored, since newer PEFT writes such keys."""
    assert read_config(write(tmp_path / "c", invented_in_2031=value, use_dora=value))


@pytest.mark.parametrize("init", ["pissa_niter_4", "olora", "corda", "lora_ga"])
def test_an_initialisation_that_peft_can_undo_names_the_cure(tmp_path: Path, init: str) -> None:
    """The message names the `save_pretrained` argument that writes a plain LoRA; LoftQ has none."""
    cure = "path_initial_model_for_weight_conversion"
    assert cure in inspect.signature(PeftModel.save_pretrained).parameters
    with pytest.raises(FormatError, match=cure):
        read_config(write(tmp_path / "c", init_lora_weights=init))
    with pytest.raises(FormatError) as caught:
        read_config(write(tmp_path / "c", init_lora_weights="loftq"))
    assert cure not in str(caught.value)


def test_another_peft_type_names_the_conversion(tmp_path: Path) -> None:
    """PEFT has the function that the message names for converting LoHa, LoKr and other types."""
    assert callable(conversion.save_as_lora)
    with pytest.raises(FormatError, match=f"save_as_lora of {conversion.__name__}"):
        read_config(write(tmp_path / "c", peft_type="LOHA"))


@pytest.mark.parametrize("init", [True, False, "gaussian", "eva", "orthogonal"])
def test_plain_initialisations_are_fine(tmp_path: Path, init: object) -> None:
    """Initialisations that do not change the base are accepted."""
    assert read_config(write(tmp_path / "c", init_lora_weights=init))


def test_every_problem_is_found_at_once(tmp_path: Path) -> None:
    """One reading reports every problem."""
    path = write(tmp_path / "c", peft_type="X", r=0, lora_alpha=None, use_dora=True)
    assert ["A011", "A012", "A013", "A014"] == sorted(codes(path))


@pytest.mark.parametrize(
    "key",
    ["(a+)+", "(a|a)*b", "(a*)*", "(.*.*)+x", ".*.*.*.*x", "(a|a)(a|a)(a|a)(a|a)b", "a{1000}",
     "((((a))))", "a" * 201, "(?=a)", "a b", "é"],
)  # fmt: skip
def test_dangerous_patterns_are_refused(tmp_path: Path, key: str) -> None:
    """A pattern that could take exponential time is refused and never run."""
    path = write(tmp_path / "c", rank_pattern={key: 4})
    assert ["A015"] == codes(path)
    assert cpu_seconds(lambda: codes(path)) < 1.0


def test_many_patterns_are_refused(tmp_path: Path) -> None:
    """A thousand plain names are accepted; a thousand regular expressions are refused."""
    names = {f"model.layers.{i}.q_proj": 4 for i in range(1000)}
    assert (
        4
        == read_config(write(tmp_path / "c", rank_pattern=names))
        .module("model.layers.999.q_proj")
        .rank
    )
    expressions = {f"a*{i}.*b": 4 for i in range(1000)}
    assert ["A015"] == codes(write(tmp_path / "c", alpha_pattern=expressions))


def test_worst_allowed_pattern_is_quick(tmp_path: Path) -> None:
    """The slowest accepted patterns take milliseconds on the longest module name."""
    keys = {f".*(a|.|a|.|.a|a.|..|a..)z{i}": 4 for i in range(16)}
    config = read_config(write(tmp_path / "c", rank_pattern=keys))
    assert 8 == config.module("a." * 99 + "bb").rank
    assert cpu_seconds(lambda: config.module("a." * 99 + "bb")) < 2.0


def test_normalised_config_says_the_same() -> None:
    """The normal form gives every module its rank, alpha and scale, using full names only."""
    modules = ["model.layers.0.q_proj", "model.layers.0.v_proj", "model.layers.1.q_proj"]
    config = AdapterConfig(8, 16.0, True, {"q_proj": 2}, {"layers.1.q_proj": 5.5}, "b")
    normal = config.normalised(modules)
    assert [config.module(name) for name in modules] == [normal.module(name) for name in modules]
    assert set(normal.rank_pattern) | set(normal.alpha_pattern) <= set(modules)
    assert normal == normal.normalised(modules)


def test_dump_reads_back(tmp_path: Path) -> None:
    """A dumped config gives every module the same rank and alpha, also where one module's name is
    the end of another's.
    """
    modules = ["proj", "a.proj", "axproj"]
    ranks = {"proj": 2, "axproj": 3}
    config = AdapterConfig(8, 8.0, False, ranks, {"proj": 0.5, "axproj": 3.0}, "b")
    (tmp_path / "c").write_bytes(config.dump(modules))
    again = read_config(tmp_path / "c")
    assert [2, 8, 3] == [again.module(name).rank for name in modules]
    assert [0.5, 8.0, 3.0] == [again.module(name).alpha for name in modules]
