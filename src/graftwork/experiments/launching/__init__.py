"""Workers that an engine starts, on many machines: Ray, or Slurm."""
