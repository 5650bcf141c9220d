from .doctor import device_text as device_text
from .doctor import doctor as doctor
from .doctor import gdal_text as gdal_text
from .doctor import version_of as version_of
from .info import info as info
