"""Write labelled text datasets with a language model, and see whether they are any good.

>>> import synthlab
>>> rows = synthlab.generate('ag_news', n=4, recipe='corrsynth', out='runs/first')     # the embedded teacher: no network, key or GPU
>>> rows.column_names[:3]
['id', 'text', 'label']

`dir(synthlab)` lists the names that a user needs; each is loaded when it is first used. `__init__.pyi` says where each of them lives.
"""
import lazy_loader

__version__ = "0.1.0"
DISTRIBUTION = 'synthlab-text'             # name on the package index, where `synthlab` is somebody else's project; settings.ini has it too

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name):
    "Load a public name when it is first used; suggest the nearest one for a name that there is none of."
    try: return _load(name)
    except AttributeError as error:
        if name not in __all__: raise AttributeError(f"synthlab has no {name!r}{_nearest(name)}") from None
        raise error


def _nearest(name):
    "The public name most like a mistyped one."
    from difflib import get_close_matches
    near = get_close_matches(name.lower(), spelt := {known.lower(): known for known in __all__}, n=1)
    return f"; did you mean {spelt[near[0]]!r}?" if near else ''
