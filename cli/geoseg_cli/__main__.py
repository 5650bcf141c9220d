"""`python -m geoseg_cli`, for environments where the command `geoseg` is not on the path."""

from geoseg_cli import command

command()
