"""Run: from a recipe to rows, resumable at any moment"""
# Below the docstring, written by tests/tools/folder_faces.py.
import lazy_loader

_HOMES = {
    'corrected_writer': ['CorrectedWriter'],
    'engine': ['Crew', 'Engine', 'RayEngine', 'ServedTeacher', 'ThreadEngine', 'Worker'],
    'generate': ['Generation', 'GroupResult', 'Screen'],
    'notices': ['run_notices'],
    'prepare': ['Prepared'],
    'preview': ['Preview', 'Prompted', 'Range', 'Sample', 'Taken'],
    'produce': ['PromptSize', 'Replay', 'Resolved', 'Result', 'check', 'estimate', 'export_run', 'make_config',
        'prompt_sizes', 'push_run', 'replay'],
    'recipe': ['Recipe', 'leave_one_out', 'load_recipe'],
    'rows': ['judge_text'],
    'screening': ['Copies', 'NearRepeats', 'SameMeaning'],
    'stages': ['Stages'],
    'targen': ['TarGEN', 'Written'],
    'writers': ['GroupWriter', 'TextWriter', 'Writer', 'WriterConfig'],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOMES)
