"""Select: which real examples does the teacher see?"""
# Below the docstring, written by tests/tools/folder_faces.py.
import lazy_loader

_HOMES = {
    'blocks': ['BlockPicks', 'select_blocks'],
    'choices': ['Selecting', 'SpreadSelection', 'UncertaintySelection'],
    'coverage': ['coverage_curve', 'coverage_rate', 'length_scale_sweep'],
    'selectors': ['class_quotas', 'select_by_class', 'select_rows'],
    'uncertainty': ['UncertaintyTracker'],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOMES)
