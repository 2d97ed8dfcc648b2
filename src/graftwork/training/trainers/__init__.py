"""What a training is made of: `transformers.Trainer` for adapters, rows on their way through a model, several adapters at once."""
