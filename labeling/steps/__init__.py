"""What one does with labels, a function each: simulate, import, push, pull, page, serve, annotate, status."""
