"""weft's merge engine: builds one LoRA adapter out of several.

Knows tensors and the PEFT folder; knows nothing of SQL, HTTP or engines.
"""
