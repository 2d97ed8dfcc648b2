"""Asking what was trained: texts and rows in, answers out; which task, and which adapters, suit a text."""
