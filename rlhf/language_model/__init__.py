"""The language model: corpus, tokenizer, pretraining, sampling."""
