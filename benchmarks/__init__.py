"""What the library costs, beside what it could cost and beside others: `python -m benchmarks --help`."""
