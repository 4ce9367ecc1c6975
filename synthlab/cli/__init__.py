"""The command line"""
# Below the docstring, written by tests/tools/folder_faces.py.
import lazy_loader

_HOMES = {
    'complete': ['beginning', 'complete_run', 'listed'],
    'doctor': ['Check', 'check_server', 'diagnose', 'examine'],
    'terminal': ['UserError'],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOMES)
