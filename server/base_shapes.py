"""The shapes of a base's modules: by rule, or from a model without weights.

`registry.bases` has a rule for Llama-like architectures. Any other causal language model that
transformers knows is built from its config.json on torch's meta device, in a child process: that
takes the seconds of importing torch and no memory for weights. Not covered: models whose code comes
with their weights.
"""

import os
from collections.abc import Mapping
from typing import Any

from registry.bases import ARCHITECTURES, architecture_of, is_embedding, module_shapes
from registry.errors import BaseConfigInvalid
from registry.types import Shapes
from server import children

_SECONDS = 300.0  # most of it is for importing torch on a busy machine
_SPARE_BYTES = 4 * 2**30
# What has nothing to do with shapes, and would have transformers load more code.
_UNREAD = ("_", "attn_implementation", "auto_map", "quantization_config")


def base_shapes(config: Mapping[str, Any]) -> Shapes:
    """Return the (d_out, d_in) of every module that an adapter can change. Blocking: seconds.

    Raises:
        BaseConfigInvalid: a size is wrong, or transformers knows no such causal language model.
    """
    architecture = architecture_of(config)
    if architecture in ARCHITECTURES:
        return module_shapes(config)
    try:
        return children.call(meta_shapes, dict(config), seconds=_SECONDS)
    except (children.ChildFailed, children.ChildDied, children.ChildTimeout) as error:
        expected = "a causal language model that transformers can build from its config.json"
        found = f"{architecture} ({error})"
        raise BaseConfigInvalid("architectures", found, expected) from error


def meta_shapes(config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Return the shapes of a model's linear layers, by the names that PEFT gives them.

    The entry of an embedding is (width, vocabulary); see `registry.types.Base`. Call it in a child:
    it limits the memory of its process for good.

    Raises:
        KeyError, ValueError, and whatever else transformers raises for a config.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # a config can name kernels to fetch
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    children.limit_memory(_SPARE_BYTES)
    stated = {key: value for key, value in config.items() if not key.startswith(_UNREAD)}
    kind = CONFIG_MAPPING[config["model_type"]].from_dict(stated)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            kind, trust_remote_code=False, attn_implementation="eager"
        )
    shapes = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            shapes[name] = (module.out_features, module.in_features)
        elif isinstance(module, Conv1D):  # GPT-2's: its weight is (d_in, d_out)
            shapes[name] = (module.nf, module.nx)
        elif isinstance(module, torch.nn.Embedding) and is_embedding(name):
            shapes[name] = (module.embedding_dim, module.num_embeddings)
    return shapes
