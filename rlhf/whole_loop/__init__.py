"""Several steps as one: the demo, rounds of the loop, and recorded work verified or done again."""
