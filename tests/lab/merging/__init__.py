"""How good merged adapters are at their ingredients' tasks: what `make lab-merge` measures."""
