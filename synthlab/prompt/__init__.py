"""Prompt: what is the teacher asked to write?"""
# Below the docstring, written by tests/tools/folder_faces.py.
import lazy_loader

_HOMES = {
    'attributes': ['AttributePrompts'],
    'choices': ['Attributes', 'FewShot', 'Prompting', 'Targeted', 'Verbalized'],
    'leaks': ['Finding', 'Inspection', 'inspect', 'quotes'],
    'prompts': ['FewShotPrompts', 'Prompts', 'RowPlace', 'RowPrompt'],
    'records': ['Extraction', 'NewTexts', 'NoRecord', 'Record', 'edited', 'extract', 'read_records', 'recombine',
        'write_request'],
    'seeds': ['SeedBank', 'StepCounts', 'passage_order', 'read_seeds'],
    'targeted': ['Attempt', 'TargetedPrompts'],
    'tree': ['ContextTree', 'TreeBank', 'make_bank'],
    'values': ['AskedValues', 'ask_values', 'draw_records'],
    'verbalized': ['VerbalizedPrompts', 'draw_weights', 'read_probability', 'verbalized_messages'],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOMES)
