"""Decode: how are the tokens drawn?"""
# Below the docstring, written by tests/tools/folder_faces.py.
import lazy_loader

_HOMES = {
    'cache': ['RowCache', 'attend_to_lines', 'borrow_cache', 'whole_lines'],
    'choices': ['CFG', 'CorrSynth', 'Decoding', 'FewGen', 'add_contrast_rows', 'group_weights'],
    'contrast': ['contrast_weights', 'correlate', 'live_weights', 'plausible'],
    'entropy': ['Matched', 'MeanEntropy', 'matched_gamma', 'matching_gamma', 'mean_entropy', 'without_contrast'],
    'loop': ['Block', 'Candidates', 'Completion', 'DecodePlan', 'DecodeStats', 'RecordedSteps', 'decode',
        'never_waits', 'record', 'recordable'],
    'model': ['CausalModel', 'Prompt'],
    'processors': ['CorrelatedLogitsProcessor', 'contrast_counts', 'vllm_arguments'],
    'sampling': ['Sampling'],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOMES)
