"""The story of a run: evaluation, curves, the report."""
