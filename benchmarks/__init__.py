"""Speed, measured as ratios to the bare model in one run; nothing here asserts a time."""
