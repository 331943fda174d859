"""A run looked at anew: fresh samples of its rungs, blind ratings, one rung out as a model."""
