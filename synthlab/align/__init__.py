"""Align: do the rows together look like the real data?"""
# Below the docstring, written by tests/tools/folder_faces.py.
import lazy_loader

_HOMES = {
    'blocks': ['BlockWeights', 'DualSolution', 'DualValue', 'mmd2_blocks', 'solve_dual'],
    'choices': ['Aligned', 'Aligning', 'MMDAlignment'],
    'importance': ['ImportanceWeights', 'checker_logprobs', 'dynamic_probs', 'importance_ratios', 'quality_probs'],
    'mmd': ['FeatureMap', 'NoiseFloor', 'PermutationTest', 'draw_features', 'mmd2', 'mmd2_interval', 'noise_floor',
        'permutation_test', 'witness'],
    'solver': ['Solution', 'effective_size', 'fista'],
    'stratified': ['ClassDistance', 'StratifiedMMD', 'stratified_floor', 'stratified_interval', 'stratified_mmd2'],
    'weights': ['MMDWeights', 'add_weights', 'balanced_weights', 'herd', 'plot_alignment', 'plot_witness',
        'resample', 'row_witness', 'witness_examples'],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOMES)
