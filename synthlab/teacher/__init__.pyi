"The public names of synthlab.teacher, for editors and type checkers."
from .asking import TextTeacher as TextTeacher
from .asking import answers as answers
from .asking import in_chains as in_chains
from .budget import Budget as Budget
from .budget import Estimate as Estimate
from .budget import Prices as Prices
from .budget import Usage as Usage
from .causal import CausalTeacher as CausalTeacher
from .causal import Continuation as Continuation
from .chat import ChatTeacher as ChatTeacher
from .requests import Answer as Answer
from .requests import Reply as Reply
from .requests import Request as Request
from .requests import read_reply as read_reply
from .throttle import Limit as Limit
from .throttle import Outage as Outage
from .throttle import Throttle as Throttle
