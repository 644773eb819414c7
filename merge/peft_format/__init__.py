"""The PEFT adapter folder as a file format: header, tensor names, config, scale.

Covered: what may stand in `adapter_config.json` and `adapter_model.safetensors`, what it means
(rank, alpha, rsLoRA, patterns), the one normal form that weft writes, and that form's digest.
Not covered: whether the adapter fits a base or may be served (the registry's admission) and any
arithmetic on factors (the rest of `merge`). Standard library and numpy only, so that the registry
can read adapters without torch.
"""

from merge.peft_format.config import AdapterConfig, ModuleScale
from merge.peft_format.folder import (
    CONFIG_NAME,
    DIGEST,
    PICKLED_WEIGHTS,
    WEIGHTS_NAME,
    AdapterFolder,
    FactorPair,
    Inspection,
    LoraModule,
    digest_folder,
    inspect_folder,
    is_digest,
    normalise_folder,
    open_folder,
)
from merge.peft_format.header import (
    DTYPE_BYTES,
    TensorEntry,
    TensorSpec,
    WeightsWriter,
    decode_float32,
    read_header,
)
from merge.peft_format.names import tensor_names
from merge.peft_format.problems import FormatError, Problem, one_per_cause

__all__ = [
    "CONFIG_NAME",
    "DIGEST",
    "DTYPE_BYTES",
    "PICKLED_WEIGHTS",
    "WEIGHTS_NAME",
    "AdapterConfig",
    "AdapterFolder",
    "FactorPair",
    "FormatError",
    "Inspection",
    "LoraModule",
    "ModuleScale",
    "Problem",
    "TensorEntry",
    "TensorSpec",
    "WeightsWriter",
    "decode_float32",
    "digest_folder",
    "inspect_folder",
    "is_digest",
    "normalise_folder",
    "one_per_cause",
    "open_folder",
    "read_header",
    "tensor_names",
]
