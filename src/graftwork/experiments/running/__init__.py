"""The run of a recipe: units one after the other in a folder, resumable at any moment, and what is written of them."""
