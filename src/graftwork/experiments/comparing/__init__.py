"""Methods held against each other: what is trained for it, and how sure a difference is."""
