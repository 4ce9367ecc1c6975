"The public names of synthlab.correct, for editors and type checkers."
from .choices import Correcting as Correcting
from .choices import Correction as Correction
from .questions import Verdict as Verdict
from .questions import correction_messages as correction_messages
from .questions import fitting_requests as fitting_requests
from .self_correction import SelfCorrection as SelfCorrection
from .transitions import RepairRates as RepairRates
from .transitions import TransitionMatrix as TransitionMatrix
from .transitions import futility as futility
from .transitions import repair_rates as repair_rates
from .transitions import transition_matrix as transition_matrix
