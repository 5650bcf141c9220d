"""`python -m geoseg_cli`, for where the command `geoseg` is not on the path."""

from geoseg_cli.main import geoseg

geoseg(prog_name="geoseg")
