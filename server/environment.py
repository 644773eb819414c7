"""The environment variables that child processes get: those on a list, so that no secret is passed.

The API keys, the database's password, the cloud's credentials and whatever else an operator has in
the environment are the gateway's alone.
"""

import os
from collections.abc import Mapping
from pathlib import Path

_NAMES = frozenset(
    """
    PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ TMPDIR TEMP TMP TERM PWD HOSTNAME VIRTUAL_ENV
    CC CXX CPATH C_INCLUDE_PATH CPLUS_INCLUDE_PATH LIBRARY_PATH MAX_JOBS
    HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy
    SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
    HF_HOME HF_HUB_CACHE HF_ENDPOINT HF_HUB_OFFLINE HF_HUB_DISABLE_TELEMETRY HF_DATASETS_OFFLINE
    HUGGINGFACE_HUB_CACHE SENTENCE_TRANSFORMERS_HOME TOKENIZERS_PARALLELISM DO_NOT_TRACK
    """.split()
)
_PREFIXES = (
    "LC_", "LD_", "XDG_", "PYTHON", "OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "NUMEXPR_",
    "MALLOC_", "TORCH_", "PYTORCH_", "CUDA_", "CUBLAS_", "NVIDIA_", "TRANSFORMERS_",
)  # fmt: skip


def allowed(
    variables: Mapping[str, str], *, names: tuple[str, ...] = (), prefixes: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return the variables that a child process may have.

    Args:
        variables: the environment of this process.
        names: further names that are allowed.
        prefixes: beginnings of further names that are allowed.
    """
    beginnings = (*_PREFIXES, *prefixes)
    return {
        name: value
        for name, value in variables.items()
        if name in _NAMES or name in names or name.startswith(beginnings)
    }


def hub_names(model: str) -> tuple[str, ...]:
    """Return what a process needs to load `model`, a folder or a Hub id that may be gated."""
    return () if Path(model).is_dir() else ("HF_TOKEN", "HF_TOKEN_PATH")


def keep_allowed(names: tuple[str, ...] = ()) -> None:
    """Remove every variable that `allowed` lacks, in a child that inherited its parent's."""
    keep = allowed(os.environ, names=names)
    for name in list(os.environ):
        if name not in keep:
            del os.environ[name]


def forget_settings() -> None:
    """Remove weft's own variables once they are read, so that no child process inherits them."""
    for name in list(os.environ):
        if name.startswith("WEFT_"):
            del os.environ[name]
