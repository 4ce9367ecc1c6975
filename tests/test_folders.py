"Each folder of the package hands on its public names, loads nothing before they are used, and hides no module of its own."
import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import synthlab
from folder_faces import folders, literal, parsed, public_names, table, texts, twice

FOLDERS = folders()
NAMES = [folder.name for folder in FOLDERS]


@pytest.mark.parametrize('folder', FOLDERS, ids=NAMES)
def test_what_a_folder_hands_on_is_written_from_its_modules(folder):
    wrong = [path.name for path, text in texts(folder).items() if not path.exists() or path.read_text(encoding='utf-8') != text]
    assert not wrong, f'run `make export` (tests/tools/folder_faces.py): {folder.name} {wrong}'


@pytest.mark.parametrize('folder', FOLDERS, ids=NAMES)
def test_every_name_can_be_had_from_the_folder(folder):
    package = importlib.import_module(f'synthlab.{folder.name}')
    assert package.__doc__ and dir(package) == sorted(name for names in public_names(folder).values() for name in names)
    for module, names in public_names(folder).items():
        home = importlib.import_module(f'synthlab.{folder.name}.{module}')
        assert [name for name in names if getattr(package, name) is not getattr(home, name)] == []


def test_folders_load_nothing_heavy():
    code = 'import sys, synthlab\n' + ''.join(f'import synthlab.{name}; dir(synthlab.{name})\n' for name in NAMES)
    code += "print(*(name for name in sys.modules if name.split('.')[0] not in sys.stdlib_module_names))"
    found = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True).stdout.split()
    ours = {'synthlab', 'lazy_loader', *(f'synthlab.{name}' for name in NAMES)}
    assert {name for name in found if name.startswith('synthlab') or name == 'torch'} == ours - {'lazy_loader'}


def test_no_name_of_a_folder_hides_a_module():
    hidden = [f'{folder.name}.{name}' for folder in FOLDERS for names in public_names(folder).values() for name in names if (folder/f'{name}.py').exists()]
    assert not hidden and not set(NAMES) & set(dir(synthlab))


def test_names_are_those_with_sections_or_of_the_face(tmp_path):
    (tmp_path/'stage').mkdir()
    (tmp_path/'__init__.py').write_text("_HOMES = {'stage.one': ['FACE']}\n", encoding='utf-8')
    sections = '"""Add.\n\n    Returns\n    -------\n    int\n        One.\n    """'
    code = f"__all__ = ['full', 'short', 'two', 'FACE']\nFACE = 1\ndef full():\n    {sections}\ndef two():\n    {sections}\ndef short(): 'One.'\ndef _own(): pass\n"
    (tmp_path/'stage'/'one.py').write_text(code, encoding='utf-8')
    (tmp_path/'stage'/'two.py').write_text(f"__all__ = ['full']\ndef full():\n    {sections}\n", encoding='utf-8')
    assert public_names(tmp_path/'stage') == {'one': ['FACE', 'full'], 'two': ['full']} and twice(public_names(tmp_path/'stage')) == ['full']


def test_tables_are_read_back():
    homes = {'one': [f'name_{i}' for i in range(40)], 'two': ['a']}
    assert ast.literal_eval('{\n' + table(homes) + '\n}') == homes and max(map(len, table(homes).split('\n'))) <= 116
    assert literal(parsed(Path(synthlab.__file__)), 'DISTRIBUTION') == synthlab.DISTRIBUTION
