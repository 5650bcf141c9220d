"""The algorithms of the toolbox, one per file."""
