"The public names of synthlab.cli, for editors and type checkers."
from .complete import beginning as beginning
from .complete import complete_run as complete_run
from .complete import listed as listed
from .doctor import Check as Check
from .doctor import check_server as check_server
from .doctor import diagnose as diagnose
from .doctor import examine as examine
from .terminal import UserError as UserError
