from .points import PointSample as PointSample
from .points import is_table_of_points as is_table_of_points
from .sample import sample as sample
