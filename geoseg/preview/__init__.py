"""Pictures of a map, for people."""
