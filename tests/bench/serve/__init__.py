"""What serving costs beside a real engine: see `tests.bench.serve.__main__`."""
