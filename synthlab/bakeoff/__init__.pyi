"The public names of synthlab.bakeoff, for editors and type checkers."
from .cells import note_cell as note_cell
from .page import BakeOff as BakeOff
from .page import bake_off as bake_off
from .schedule import Schedule as Schedule
from .schedule import write_cell as write_cell
from .schedule import write_cells as write_cells
