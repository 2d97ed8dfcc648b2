"""The blocks that learn how to combine adapters, one file each: `Fuse`, `ScaLearn`, `Route`, `Concat`."""
