"""Where the weights of adapters live in a model, and in what form the base keeps its own."""
