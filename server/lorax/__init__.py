"""LoRAX's `/generate` API: its clients' requests, answered by way of `/v1/completions`."""
