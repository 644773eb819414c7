"""vLLM's log at start: the cause of a failure, and the stage."""

import pytest

from server.engine.startup_log import root_cause, stage_of

_P = "(EngineCore pid=7) ERROR 11-28 17:36:14 [core.py:1100] "
MEMORY = f"""(APIServer pid=1) INFO 11-28 17:36:10 [model.py:2152] Using max model len 512
{_P}EngineCore failed to start.
{_P}Traceback (most recent call last):
{_P}  File "core.py", line 1, in run
{_P}    check()
{_P}ValueError: No available memory for the cache blocks. Increase gpu_memory_utilization.
(EngineCore pid=7) Process EngineCore:
(APIServer pid=1) Traceback (most recent call last):
(APIServer pid=1)   File "api_server.py", line 9, in main
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.
"""
CONFIG = """(APIServer pid=1) pydantic_core.ValidationError: 1 error for ModelConfig
(APIServer pid=1)   Value error, max_model_len (999999) is greater than 512
(APIServer pid=1)     For further information visit https://errors.pydantic.dev
"""


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (MEMORY, "ValueError: No available memory for the cache blocks"),
        (CONFIG, "max_model_len (999999) is greater than 512"),
        ("api_server.py: error: unrecognized arguments: --nope\n", "unrecognized arguments"),
        (
            f"{_P}torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n",
            "CUDA out of memory",
        ),
    ],
)
def test_the_cause_is_found(log: str, cause: str) -> None:
    """The last exception that is not a report of another process's failure, without its prefix."""
    text = root_cause(log)
    assert text is not None
    assert cause in text
    assert "pid=" not in text
    assert "See root cause" not in text


def test_a_log_without_an_exception_has_no_cause() -> None:
    """A log without an exception has no cause, so that the caller shows its last lines."""
    assert root_cause("stub engine\nno weights, no service\n") is None


def test_the_stage_is_the_last_one_named() -> None:
    """Lines without a stage change nothing; shards are counted."""
    log = MEMORY.splitlines()[0] + "\nINFO [x] Starting to load model /m...\nINFO [y] other\n"
    assert stage_of(log) == "loading weights"
    assert stage_of(log + "Loading safetensors checkpoint shards:  50% 2/4\n") == (
        "loading weights (50%)"
    )
    assert stage_of("INFO nothing to see\n") is None
