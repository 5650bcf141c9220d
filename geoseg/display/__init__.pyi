from .page import Page as Page
from .picture import check_picture as check_picture
from .picture import picture as picture
from .preview import preview as preview
