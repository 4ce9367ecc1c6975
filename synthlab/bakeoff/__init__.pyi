"The public names of synthlab.bakeoff, for editors and type checkers."
from .page import BakeOff as BakeOff
from .page import bake_off as bake_off
