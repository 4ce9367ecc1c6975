"""Write labelled text datasets with a language model, and see whether they are any good.

>>> import synthlab
>>> rows = synthlab.generate('ag_news', n=4, recipe='corrsynth', out='runs/first')   # the embedded teacher: no key, no GPU
>>> rows.column_names[:3]
['id', 'text', 'label']

`dir(synthlab)` lists the names that a user needs; each is loaded when it is first used. `__init__.pyi` is for editors and
type checkers.
"""
import sys

import lazy_loader

__version__ = "0.1.0"
# The name on the package index, where `synthlab` is somebody else's project; settings.ini has it too.
DISTRIBUTION = 'synthlab-text'

# In a notebook without ipywidgets tqdm warns when it is first imported, be it by datasets or by transformers. Nothing is
# wrong: bars are plain there.
if 'ipykernel' in sys.modules:
    import warnings
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'IProgress not found')
        import tqdm.auto  # noqa: F401
    del tqdm, warnings

_HOMES = {
    'align.mmd': ['mmd2'], 'align.weights': ['MMDWeights', 'resample'], 'bakeoff.page': ['bake_off'],
    'correct.self_correction': ['SelfCorrection'], 'decode.choices': ['CFG', 'CorrSynth', 'FewGen'],
    'decode.contrast': ['contrast_weights', 'correlate', 'live_weights'], 'decode.sampling': ['Sampling'],
    'embeddings': ['Embedder'], 'filters': ['Filters'], 'measure.dataset': ['LabelledDataset'],
    'measure.fidelity': ['mauve'],
    'measure.lexical': ['distinct_n', 'near_duplicates', 'self_bleu'], 'measure.quality': ['compare', 'evaluate'],
    'measure.report': ['show_run'], 'measure.review': ['apply_review', 'write_review'],
    'measure.semantic': ['label_cosine', 'novelty', 'vendi_score'],
    'measure.students': ['Student'], 'run.preview': ['preview'],
    'run.recipe': ['Recipe', 'generate', 'load_recipe'], 'run.targen': ['TarGEN'],
    'select.coverage': ['coverage_rate'], 'select.uncertainty': ['UncertaintyTracker'], 'store.runs': ['read_rows'],
    'tasks.task': ['Label', 'Task', 'load_task'], 'teacher.causal': ['CausalTeacher'],
    'teacher.chat': ['ChatTeacher'], 'teacher.requests': ['Request'], 'util': ['CannotMeasure']}
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
