"The public names of synthlab.select, for editors and type checkers."
from .blocks import BlockPicks as BlockPicks
from .blocks import select_blocks as select_blocks
from .choices import Selecting as Selecting
from .choices import SpreadSelection as SpreadSelection
from .choices import UncertaintySelection as UncertaintySelection
from .coverage import coverage_curve as coverage_curve
from .coverage import coverage_rate as coverage_rate
from .coverage import length_scale_sweep as length_scale_sweep
from .selectors import class_quotas as class_quotas
from .selectors import select_by_class as select_by_class
from .selectors import select_rows as select_rows
from .uncertainty import UncertaintyTracker as UncertaintyTracker
