"""Store: what is kept of a run, and how it is exported"""
# Below the docstring, written by tests/tools/folder_faces.py.
import lazy_loader

_HOMES = {
    'calls': ['CallStore', 'Outbox', 'SentCalls'],
    'export': ['dataset_card', 'push_to_hub'],
    'runs': ['Run', 'read_rows'],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOMES)
