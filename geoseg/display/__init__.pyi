from .page_file import Page as Page
from .page_file import check_target as check_target
from .picture import picture as picture
from .polygons_picture import check_picture as check_picture
from .polygons_picture import draw_polygons as draw_polygons
from .preview import preview as preview
