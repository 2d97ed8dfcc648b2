"""Finding sites: a copy of the model is run once, and every addition to its residual stream is followed."""
