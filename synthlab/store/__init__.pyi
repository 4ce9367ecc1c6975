"The public names of synthlab.store, for editors and type checkers."
from .calls import CallStore as CallStore
from .calls import Outbox as Outbox
from .calls import SentCalls as SentCalls
from .export import dataset_card as dataset_card
from .export import push_to_hub as push_to_hub
from .runs import Run as Run
from .runs import read_rows as read_rows
