"""`python -m geoseg.preview SCENE MAP OUT.png`."""

import sys

from geoseg.preview.picture import picture

picture(*sys.argv[1:4])
