"The public names of synthlab.cli, for editors and type checkers."
from .terminal import UserError as UserError
