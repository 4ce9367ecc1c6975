"""Tasks: labels, fields, gold rows, and what a row of each task looks like"""
# Below the docstring, written by tests/tools/folder_faces.py.
import lazy_loader

_HOMES = {
    'documents': ['Block', 'Documents', 'Passage', 'PassageSeeds', 'cut_blocks', 'distinct_passages',
        'find_documents', 'passage_seeds', 'read_documents', 'read_markdown', 'read_pdf', 'read_text',
        'telling_words'],
    'gold': ['Table', 'as_table', 'demonstration_pool', 'labelled_rows', 'load_gold', 'map_labels', 'read_table',
        'written_rows'],
    'strategies': ['find_strategy'],
    'strategy': ['InstanceSeed', 'Job', 'Strategy', 'passage_spec', 'spec_of'],
    'superglue': ['from_official', 'load_superglue', 'multi_task', 'official_rows', 'read_gold', 'text_to_text',
        'write_official'],
    'task': ['Attribute', 'Check', 'GoldSource', 'Label', 'Part', 'Targeted', 'Task', 'load_task', 'messages'],
    'trust': ['trust_notice'],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOMES)
