"""The pages of docs/methods, made from the registered methods and blocks."""
