"""What the client costs, measured: one file a question, `python -m benchmarks` for all."""
