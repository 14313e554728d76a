"""Measurements: `python -m bench.NAME [--quick] [--json FILE]`; figures in docs/benchmarks.md."""
