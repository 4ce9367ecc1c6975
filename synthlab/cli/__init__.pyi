"The public names of synthlab.cli, for editors and type checkers."
from .doctor import Check as Check
from .doctor import check_server as check_server
from .doctor import diagnose as diagnose
from .doctor import examine as examine
from .terminal import UserError as UserError
