"""Imported once by the server from which the processes of a test are forked, so that each of them starts at once.

Nothing is computed here: torch's pool of threads does not survive a fork.
"""
import accelerate  # noqa: F401
import transformers.models.bert.modeling_bert  # noqa: F401  (what transformers imports at the first model of pocket's kind)
from synthlab.run import produce as production; from synthlab.teacher import chat  # noqa: F401
