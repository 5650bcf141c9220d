"""`python -m geoseg_cli`, for where the command `geoseg` is not on the path."""

from geoseg_cli import command

command()
