"""What a recipe says: its tables, the kinds of trainings, their budgets, the units that it expands to."""
