"""Many runs over a grid of options: where overoptimisation starts, and what moves it."""
