"Imported once by the server from which the processes of a test are forked, so that each of them starts at once."
import torch
from synthlab import chat, production  # noqa: F401
from synthlab.production import make_teacher

torch.set_num_threads(1)                       # a pool of threads does not survive a fork
make_teacher({'teacher': {'name': 'pocket'}})  # what transformers imports at the first model
