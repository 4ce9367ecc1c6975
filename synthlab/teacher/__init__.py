"""Teachers: who answers, how a reply is read, and what may be spent"""
# Below the docstring, written by tests/tools/folder_faces.py.
import lazy_loader

_HOMES = {
    'asking': ['TextTeacher', 'answers', 'in_chains'],
    'batch': ['BatchService', 'BatchTeacher', 'Fault'],
    'budget': ['Budget', 'Estimate', 'Prices', 'Usage'],
    'causal': ['CausalTeacher', 'Continuation'],
    'chat': ['ChatTeacher'],
    'presets': ['ServerPreset'],
    'requests': ['Answer', 'Reply', 'Request', 'read_reply'],
    'throttle': ['Limit', 'Outage', 'Throttle'],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOMES)
