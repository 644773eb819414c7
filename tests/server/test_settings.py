"""Settings: read once, the command line before the environment; an invalid value stops the
start.
"""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from server.base_settings import BaseOptions
from server.settings import Settings


def test_without_anything_there_are_defaults() -> None:
    """Every setting has a default that serves the default base from one folder."""
    settings = Settings()
    assert "meta-llama/Llama-3.1-8B-Instruct" == settings.served_base == settings.model
    assert f"sqlite:///{Path('weft-home').resolve()}/weft.db" == settings.database
    assert (Path("weft-home/blobs").resolve(), Path("weft-home/artifacts").resolve()) == (
        settings.blobs, settings.artifacts,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("config", "/dev/null", Path("/dev/null")),
        ("home", "/srv/weft", Path("/srv/weft")),
        ("database_url", "postgresql://h/d", "postgresql://h/d"),
        ("store", "s3://box/weft/", "s3://box/weft"),
        ("store_timeout_seconds", "5", 5.0),
        ("store_retry_seconds", "0", 0.0),
        ("store_cache_bytes", "10", 10),
        ("store_budget_bytes", "20", 20),
        ("artifacts_dir", "/mnt/fast/weft", Path("/mnt/fast/weft")),
        ("artifact_budget_bytes", "1000", 1000),
        ("model", "a/b", "a/b"),
        ("served_base", "c/d", "c/d"),
        ("bases", '{"a": {"model": "x/a"}}', {"a": BaseOptions(model="x/a")}),
        ("host", "10.0.0.1", "10.0.0.1"),
        ("port", "0", 0),
        ("chat_max_bytes", "9", 9),
        ("json_max_bytes", "8", 8),
        ("bodies_max_bytes", "7", 7),
        ("body_seconds", "6.5", 6.5),
        ("header_seconds", "5.5", 5.5),
        ("write_idle_seconds", "4.5", 4.5),
        ("max_connections", "3", 3),
        ("statement_seconds", "2.5", 2.5),
        ("api_keys", "one, two", (SecretStr("one"), SecretStr("two"))),
        (
            "engine_url",
            "http://gpu-1:8000/, http://gpu-2:8000",
            ("http://gpu-1:8000", "http://gpu-2:8000"),
        ),
        ("engine_key", "k", SecretStr("k")),
        ("engine_port", "1", 1),
        ("engine_args", "--x 1", "--x 1"),
        ("engine_start_seconds", "1.5", 1.5),
        ("engine_probe_seconds", "2.5", 2.5),
        ("engine_probe_misses", "4", 4),
        ("engine_env", "CUDA_HOME, ,X", ("CUDA_HOME", "X")),
        ("stream_idle_seconds", "60", 60.0),
        ("drain_seconds", "0", 0.0),
        ("canary", "off", "off"),
        ("canary_file", "/etc/weft/canary.jsonl", Path("/etc/weft/canary.jsonl")),
        ("max_lora_rank", "16", 16),
        ("max_loras", "2", 2),
        ("max_cpu_loras", "9", 9),
        ("warm_artifacts", "0", 0),
        ("max_model_len", "4096", 4096),
        ("dtype", "float16", "float16"),
        ("merge_workers", "3", 3),
        ("merge_queue", "5", 5),
        ("merge_queue_share", "4", 4),
        ("events_days", "30", 30.0),
        ("job_files_days", "30", 30.0),
        ("recipes_days", "90", 90.0),
        ("audit_days", "365", 365.0),
        ("merge_max_weight", "10", 10.0),
        ("weight_step", "0.05", 0.05),
        ("merge_max_ingredients", "8", 8),
        ("merge_max_total_rank", "128", 128),
        ("merge_max_bytes", "1000", 1000),
        ("merge_threads", "4", 4),
        ("merge_timeout_seconds", "7", 7.0),
        ("norm_limit", "10", 10.0),
        ("norm_minimum", "1", 1.0),
        ("factor_limit", "100", 100.0),
        ("import_max_rank", "256", 256),
        ("import_max_bytes", "1000000", 10**6),
        ("licences", "Apache-2.0, mit", ("Apache-2.0", "mit")),
        ("required_fields", "card,licence", ("card", "licence")),
        ("import_roots", "/srv/a,/srv/b", (Path("/srv/a"), Path("/srv/b"))),
        ("protected_aliases", "prod, live", ("prod", "live")),
        ("text_encoder", "acme/minilm", "acme/minilm"),
        ("hub_endpoint", "http://mirror", "http://mirror"),
        ("hub_owners", "acme, Me", ("acme", "Me")),
        ("hub_workers", "8", 8),
        ("job_devices", "cuda:0, cuda:1", ("cuda:0", "cuda:1")),
        ("job_memory_bytes", "1000", 1000),
        ("job_timeout_seconds", "60", 60.0),
        ("file_max_bytes", "1000", 1000),
        ("chat_max_bytes", "1000", 1000),
        ("json_max_bytes", "1000", 1000),
        ("bodies_max_bytes", "1000000000", 10**9),
        ("body_seconds", "5", 5.0),
        ("header_seconds", "5", 5.0),
        ("write_idle_seconds", "5", 5.0),
        ("max_connections", "50", 50),
        ("statement_seconds", "5", 5.0),
        ("merge_queue_share", "1000000000", 10**9),
        ("merge_max_weight", "5", 5.0),
        ("merge_max_ingredients", "1000000000", 10**9),
        ("merge_max_total_rank", "1000000000", 10**9),
        ("merge_max_bytes", "1000000000", 10**9),
        ("max_answers", "1000000000", 10**9),
        ("allowed_hosts", "a.example, b.example", ("a.example", "b.example")),
        (
            "cors_origins",
            "https://a.example, http://b:3000",
            ("https://a.example", "http://b:3000"),
        ),
        ("prompt_tokens_details", "true", True),
        ("otlp_endpoint", "http://collector:4318", "http://collector:4318"),
        ("limit_requests", "60", 60),
        ("limit_tokens", "1000", 1000),
        ("limit_compositions", "5", 5),
        ("limit_build_seconds", "30", 30.0),
        ("log_format", "json", "json"),
        ("self_test", "false", False),
    ],
)
def test_every_setting_is_a_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    """Each setting can be given as text in WEFT_* and gets its type."""
    monkeypatch.setenv(f"WEFT_{name.upper()}", text)
    if name == "max_loras":
        monkeypatch.setenv("WEFT_MAX_CPU_LORAS", "2")
    assert value == getattr(Settings(), name)


def test_the_table_above_is_complete() -> None:
    """The test of variables covers every setting."""
    parameters = test_every_setting_is_a_variable.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert set(Settings.model_fields) == {name for name, _, _ in parameters}


def test_arguments_win_over_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Command-line values take precedence."""
    monkeypatch.setenv("WEFT_PORT", "1")
    assert (2, 1) == (Settings(port=2).port, Settings().port)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "eighty"), ("port", "65536"), ("port", "-1"), ("artifact_budget_bytes", "0"),
        ("max_lora_rank", "10"), ("max_lora_rank", "x"), ("max_loras", "0"), ("dtype", "int8"),
        ("merge_workers", "0"), ("merge_threads", "0"), ("merge_timeout_seconds", "0"),
        ("merge_timeout_seconds", "nan"), ("norm_limit", "-1"), ("norm_limit", "nan"),
        ("self_test", "perhaps"), ("engine_start_seconds", "0"), ("max_model_len", "0"),
        ("api_keys", ""), ("api_keys", "a,,b"), ("api_keys", ","), ("norm_minimum", "-1"),
        ("import_max_rank", "0"), ("import_max_rank", "2049"), ("import_max_bytes", "0"),
        ("store", "/srv/weft"), ("store", "s3://key:sesame@box"), ("store_cache_bytes", "0"),
        ("hub_workers", "0"), ("cors_origins", "chat.example.com"),
        ("cors_origins", "https://chat.example.com/"), ("engine_url", "gpu-1:8000"),
    ],
)  # fmt: skip
def test_a_bad_value_stops_the_start_and_names_itself(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    """An invalid value is refused under the setting's name."""
    monkeypatch.setenv(f"WEFT_{name.upper()}", text)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert [(name,)] == [error["loc"] for error in caught.value.errors()]
    assert "sesame" not in str(caught.value)


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A WEFT_* variable that is not a setting is an error with the nearest name."""
    monkeypatch.setenv("WEFT_HOEM", "/srv/weft")
    with pytest.raises(ValidationError, match=r"WEFT_HOEM is not a setting.*WEFT_HOME"):
        Settings()


def test_more_slots_than_memory_is_refused() -> None:
    """weft refuses at once what vLLM would refuse after a minute."""
    with pytest.raises(ValidationError, match="max_cpu_loras must be at least max_loras"):
        Settings(max_loras=8, max_cpu_loras=4)


def test_an_unknown_argument_is_refused() -> None:
    """A misspelt setting is an error, not a default."""
    with pytest.raises(ValidationError):
        Settings(prot=1)  # type: ignore[call-arg]  # that is the point


def test_secrets_are_masked() -> None:
    """Printed settings contain no key."""
    settings = Settings(api_keys="sesame", engine_key="mustard")
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert "sesame" not in text
        assert "mustard" not in text


def test_settings_do_not_change() -> None:
    """Assigning to a setting is an error."""
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]  # that is the point


@pytest.mark.parametrize(
    ("dtype", "merged"),
    [("auto", "bfloat16"), ("float32", "float32"), ("bfloat16", "bfloat16"),
     ("float16", "float16")],
)  # fmt: skip
def test_merges_are_written_in_the_engine_s_dtype(dtype: str, merged: str) -> None:
    """Merges use the engine's dtype, so that values are rounded only once."""
    assert merged == Settings(dtype=dtype).merge_dtype


def test_an_empty_key_is_refused_however_it_is_given() -> None:
    """An empty key is refused, because it would admit requests without a key."""
    with pytest.raises(ValueError, match="empty key"):
        Settings(api_keys=("",))
    with pytest.raises(ValueError, match="empty key"):
        Settings(api_keys=[" "])
