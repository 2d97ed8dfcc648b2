"""Comparisons of methods: what is trained for them, and how certain a difference is."""
