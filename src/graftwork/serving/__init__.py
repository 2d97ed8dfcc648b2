"""Predictions over HTTP: rows of many tasks in one batch, tasks that come and go, a page to try them."""
