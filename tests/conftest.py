"""Hooks of the whole test suite."""

from __future__ import annotations

from tests.architectures.summary import pytest_collection_modifyitems, pytest_terminal_summary

__all__ = ["pytest_collection_modifyitems", "pytest_terminal_summary"]
