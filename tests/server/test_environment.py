"""What an engine reads of the gateway's environment."""

import os
from pathlib import Path

import pytest

from server.engine.command import engine_environment
from server.environment import forget_settings
from tests.server.conftest import MakeSettings

SECRETS = ("WEFT_API_KEYS", "WEFT_DATABASE_URL", "WEFT_ENGINE_KEY", "PGPASSWORD", "HF_TOKEN")


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment with secrets, and with what vLLM reads."""
    for name in SECRETS:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0-1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")


def test_an_engine_gets_no_secret(make_settings: MakeSettings) -> None:
    """The engine gets what vLLM and CUDA read, its own key, and no secret of the gateway."""
    environment = engine_environment(make_settings(engine_env=("X",)), "key", 3)
    assert "secret" not in environment.values()
    assert ("0-1", "1") == (
        environment["VLLM_CPU_OMP_THREADS_BIND"], environment["CUDA_VISIBLE_DEVICES"],
    )  # fmt: skip
    assert ("key", "3") == (environment["VLLM_API_KEY"], environment["WEFT_LIFELINE"])
    assert Path(environment["WEFT_ARTIFACTS"]).is_absolute()


def test_an_engine_gets_the_token_of_a_model_on_the_hub(make_settings: MakeSettings) -> None:
    """The Hub's token is passed where the engine downloads its model, and nowhere else."""
    environment = engine_environment(make_settings(model="acme/gated"), "key", 3)
    assert ["HF_TOKEN"] == [name for name, value in environment.items() if value == "secret"]


def test_an_operator_can_name_more(make_settings: MakeSettings) -> None:
    """WEFT_ENGINE_ENV passes what its operator says."""
    environment = engine_environment(make_settings(engine_env=("PGPASSWORD", "UNSET")), "key", 3)
    assert ["PGPASSWORD"] == [name for name, value in environment.items() if value == "secret"]


def test_settings_are_forgotten_once_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the start no variable of weft is left for a child process to inherit."""
    forget_settings()
    assert [] == [name for name in os.environ if name.startswith("WEFT_")]
    assert "HF_TOKEN" in os.environ  # the gateway itself imports from the Hub
