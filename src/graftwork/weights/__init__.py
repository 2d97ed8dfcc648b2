"""Where the weights of adapters are in a model, and how the base keeps its own."""
