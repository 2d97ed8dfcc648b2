"""Tiny models with random weights that everything is tested on: `tests.zoo.models.build(name)`."""
