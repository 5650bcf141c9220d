"""A data set becomes a bundle."""
