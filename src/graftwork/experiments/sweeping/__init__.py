"""Sweeps: the same recipe with other values, trial by trial, to find the best ones."""
