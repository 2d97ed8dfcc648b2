"""What trainings cost: measured for a recipe that is not run yet, and as ratios to full fine-tuning."""
