"""The verdicts on an architecture; apart, so that the hooks of pytest import nothing heavy."""

from __future__ import annotations

STRICT = "right (strict)"
PUBLISHED_FORM = "right (published form)"
REFUSED_RIGHTLY = "right (no residual sums: refused)"
CONVOLUTIONS = "right (convolutions alone)"
RIGHT = (STRICT, PUBLISHED_FORM, REFUSED_RIGHTLY, CONVOLUTIONS)
VERDICTS = (*RIGHT, "wrong", "refused", "not built")
