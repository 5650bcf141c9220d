from .point_sample import PointSample as PointSample
from .point_sample import is_table_of_points as is_table_of_points
from .sample import sample as sample
