"""A language model behind an OpenAI-style address as a judge: of one text, on a scale, or of two, which is better."""
