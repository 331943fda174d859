"""What one does with rewards, a function each: fit, compare, probe."""
