"""A laptop-sized language, a tiny Llama that speaks it, and the adapters of the demo."""
