"""Correct: is the label right?"""
# Below the docstring, written by tests/tools/folder_faces.py.
import lazy_loader

_HOMES = {
    'choices': ['Correcting', 'Correction', 'Evidence'],
    'evidence': ['Evidenced', 'centred', 'decide', 'fit_scales', 'label_evidence', 'label_marks', 'label_weights',
        'mark_scores', 'scored'],
    'questions': ['Verdict', 'correction_messages', 'fitting_requests'],
    'self_correction': ['SelfCorrection'],
    'transitions': ['RepairRates', 'TransitionMatrix', 'futility', 'repair_rates', 'transition_matrix'],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOMES)
