"""The algorithms of the toolbox, one a file."""
