"""Write labelled text datasets with a language model, and see whether they are any good.

>>> import synthlab
>>> rows = synthlab.generate('ag_news', n=4, recipe='corrsynth', out='runs/first')   # the embedded teacher: no key, no GPU
>>> rows.column_names[:3]
['id', 'text', 'label']

`dir(synthlab)` lists the names that a user needs; each is loaded when it is first used. `__init__.pyi` is for editors and
type checkers.
"""
import lazy_loader

__version__ = "0.1.0"
# The name on the package index, where `synthlab` is somebody else's project; settings.ini has it too.
DISTRIBUTION = 'synthlab-text'

_HOMES = {
    'alignment': ['MMDWeights', 'resample'], 'chat': ['ChatTeacher'],
    'contrast': ['contrast_weights', 'correlate', 'live_weights'],
    'self_correction': ['SelfCorrection'], 'corrsynth': ['CFG', 'CorrSynth', 'FewGen'], 'coverage': ['coverage_rate'],
    'embeddings': ['Embedder'], 'fidelity': ['mauve'], 'lexical': ['distinct_n', 'near_duplicates', 'self_bleu'],
    'util': ['CannotMeasure'], 'mmd': ['mmd2'], 'quality': ['compare', 'evaluate'],
    'recipes': ['Recipe', 'generate', 'load_recipe'], 'report': ['show_run'], 'requests': ['Request'],
    'page': ['bake_off'], 'runs': ['read_rows'], 'sampling': ['Sampling'],
    'semantic': ['label_cosine', 'novelty', 'vendi_score'],
    'students': ['Student'], 'targen': ['TarGEN'], 'tasks': ['Label', 'Task', 'load_task'],
    'teachers': ['CausalTeacher'], 'uncertainty': ['UncertaintyTracker']}
_load, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOMES)


def __getattr__(name):
    "Load a public name when it is first used; suggest the nearest one for a name that there is none of."
    if name in __all__: return _load(name)
    raise AttributeError(f"synthlab has no {name!r}{_nearest(name)}")


def _nearest(name):
    "The public name most like a mistyped one."
    from difflib import get_close_matches
    spelt = {known.lower(): known for known in __all__}
    near = get_close_matches(name.lower(), spelt, n=1)
    return f'; did you mean {spelt[near[0]]!r}?' if near else ''
