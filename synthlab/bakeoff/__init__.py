"""Bake-off: which recipe is best at the same number of tokens?"""
# Below the docstring, written by tests/tools/folder_faces.py.
import lazy_loader

_HOMES = {
    'cells': ['note_cell'],
    'page': ['BakeOff', 'bake_off'],
    'schedule': ['Schedule', 'write_cell', 'write_cells'],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOMES)
