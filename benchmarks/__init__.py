"""The same work, timed: `make bench`, or `python -m benchmarks [--quick]`."""
