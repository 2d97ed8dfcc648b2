"""One forward pass of a model with adapters: hooks, the frame, the plan of a composition, and what is written at a site."""
