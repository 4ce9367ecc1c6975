"The names at the top of the package: all there, nothing heavy loaded before they are used, each with an example that runs."
import ast
import doctest
import inspect
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import synthlab

NAMES = '''Task Label load_task Recipe load_recipe generate Filters Sampling CausalTeacher ChatTeacher Request FewGen CFG CorrSynth TarGEN SelfCorrection UncertaintyTracker MMDWeights resample mmd2 preview
Embedder LabelledDataset Student evaluate compare show_run read_rows bake_off contrast_weights correlate live_weights self_bleu distinct_n near_duplicates label_cosine vendi_score mauve novelty coverage_rate
CannotMeasure apply_review write_review'''.split()
STUB = Path(synthlab.__file__).with_suffix('.pyi')


def test_the_names_are_those_that_users_know(): assert dir(synthlab) == sorted(NAMES) == sorted(synthlab.__all__)


def test_every_name_can_be_imported():
    strangers = {'langchain', 'langchain_core', 'spacy', 'umap', 'pycountry', 'textblob'}
    code = '\n'.join(f'from synthlab import {name}; assert {name}.__name__ == {name!r}' for name in NAMES)
    code += f'\nimport sys, synthlab.run.targen, synthlab.tasks.superglue; assert not (found := {strangers} & set(sys.modules)), found'
    subprocess.run([sys.executable, '-W', 'error::DeprecationWarning:synthlab', '-c', code], check=True)


def test_the_stub_says_the_same_as_the_package():
    told = [(alias.name, alias.asname, f'synthlab.{node.module}') for node in ast.parse(STUB.read_text(encoding='utf-8')).body[1:] for alias in node.names]
    assert sorted(told) == [(name, name, inspect.getmodule(getattr(synthlab, name)).__name__) for name in sorted(NAMES)]


def test_modules_are_still_modules():
    code = 'from synthlab.tasks import task as tasks; from synthlab.teacher import chat\nimport synthlab.run.recipe\nassert chat.__name__ == "synthlab.teacher.chat" and synthlab.run.recipe.__name__ == "synthlab.run.recipe"'
    subprocess.run([sys.executable, '-c', code], check=True)


def test_a_mistyped_name_gets_the_nearest():
    with pytest.raises(AttributeError, match="no 'genrate'; did you mean 'generate'"): synthlab.genrate
    with pytest.raises(AttributeError, match="no 'quetzalcoatl'$"): synthlab.quetzalcoatl


def test_nothing_heavy_is_imported():
    "Fewer than 40 modules of the standard library at the most, counted rather than timed: a busy machine changes no count."
    code = 'import sys; before = set(sys.modules); import synthlab; dir(synthlab); print(*set(sys.modules) - before)'
    found = set(subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True).stdout.split())
    assert {name for name in found if name.split('.')[0] not in sys.stdlib_module_names} == {'synthlab', 'lazy_loader'}
    assert len(found) < 40, found


@pytest.mark.parametrize('name', [pytest.param(name, marks=[pytest.mark.long] if name == 'bake_off' else []) for name in NAMES])
def test_the_example_of_each_name_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parts = inspect.getdoc(getattr(synthlab, name)).split('\nExamples\n--------\n')
    assert len(parts) == 2, f'{name} has no example'
    names = {known: getattr(synthlab, known) for known in dir(synthlab)} | {'torch': __import__('torch'), 'np': __import__('numpy')}
    [test] = doctest.DocTestFinder(recurse=False).find(type('Example', (), {'__doc__': parts[1]}), name, module=False, globs=names)
    said = []
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        found = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS).run(test, out=said.append)
    assert found.attempted and not found.failed, ''.join(said)
    assert all(not example.options for example in test.examples), 'an example may not be skipped'
