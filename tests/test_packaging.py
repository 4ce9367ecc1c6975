"What is installed is what is here: a wheel is built without a network, holds every file, says who it is, and works outside the checkout."
import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import distributions
from pathlib import Path

import pytest
import synthlab
import synthlab._modidx
import yaml
from changelog_entry import current, entries, entry, release_notes
from synthlab.cli.doctor import _EXTRAS
from synthlab.store.export import _papers
from synthlab.util import how_to_install

ROOT = Path(__file__).parents[1]
config = ConfigParser(delimiters=['='])
config.read(ROOT/'settings.ini', encoding='utf-8')
SETTINGS = config['DEFAULT']
NEEDED = ('settings.ini', 'setup.py', 'MANIFEST.in', 'README.md', 'LICENSE', 'NOTICE', 'CHANGELOG.md', 'CONTRIBUTING.md', 'CITATION.cff', 'Makefile')
pytest.importorskip('setuptools', minversion='77', reason='a wheel is built by setuptools 77 or newer: pip install -e ".[dev]"')


def in_package(folder): return {path.relative_to(folder).as_posix() for path in (folder/'synthlab').rglob('*') if path.is_file() and '__pycache__' not in path.parts}


def run(*words, cwd, **environment):
    "A command's output; the test fails with what it says on standard error."
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=os.environ | environment, capture_output=True, encoding='utf-8')
    assert not done.returncode, done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    "A copy of what is packed, so that the build leaves nothing in the checkout."
    folder = tmp_path_factory.mktemp('source')
    for name in NEEDED: shutil.copy(ROOT/name, folder)
    shutil.copytree(ROOT/'synthlab', folder/'synthlab', ignore=shutil.ignore_patterns('__pycache__'))
    return folder


@pytest.fixture(scope='module')
def installed(source, tmp_path_factory):
    "The wheel, installed into a folder of its own."
    out = tmp_path_factory.mktemp('wheel')
    pip = sys.executable, '-m', 'pip', '-q', '--disable-pip-version-check'
    run(*pip, 'wheel', '--no-deps', '--no-index', '--no-build-isolation', '--wheel-dir', out/'dist', '.', cwd=source)
    wheel, = (out/'dist').iterdir()
    run(*pip, 'install', '--no-deps', '--no-index', '--no-compile', '--target', out/'site', wheel, cwd=out)
    return out/'site'


def test_the_wheel_holds_every_file(installed):
    there = in_package(installed)
    assert there == in_package(ROOT) and 'synthlab/py.typed' in there
    resources = [name for name in there if name.startswith('synthlab/resources/')]
    assert len(resources) == sum(path.is_file() for path in (ROOT/'synthlab'/'resources').rglob('*')) > 40
    assert all((installed/name).read_bytes() == (ROOT/name).read_bytes() for name in there)


def test_the_metadata_says_who_and_under_which_terms(installed):
    found, = distributions(path=[str(installed)])
    told = found.metadata
    assert told['Name'] == synthlab.DISTRIBUTION == SETTINGS['lib_name'] and told['Version'] == synthlab.__version__ == SETTINGS['version']
    assert told['License-Expression'] == 'Apache-2.0' and not any(line.startswith('License ::') for line in told.get_all('Classifier'))
    assert {f'Programming Language :: Python :: 3.{minor}' for minor in (11, 12, 13, 14)} | {'Typing :: Typed', 'Framework :: Jupyter'} <= set(told.get_all('Classifier'))
    assert {line.split(',')[0] for line in told.get_all('Project-URL')} == {'Documentation', 'Source', 'Changelog', 'Issues'}
    licences = {path.name: path.locate().read_bytes() for path in found.files if path.parent.name == 'licenses'}
    assert licences == {name: (ROOT/name).read_bytes() for name in ('LICENSE', 'NOTICE')} and set(told.get_all('License-File')) == set(licences)
    assert 'RESEARCH OR\nNON-COMMERCIAL USE ONLY' in found.metadata.get_payload()
    assert any(point.name == 'synthlab' and point.value == 'synthlab.cli.start:start' for point in found.entry_points)


OUTSIDE = """
import sys
from pathlib import Path
import synthlab, synthlab.tasks.task
from synthlab.store.runs import read_rows
assert Path(synthlab.__file__).is_relative_to(sys.argv[1]), synthlab.__file__
assert len(synthlab.tasks.task.task_names()) == 16
print([row['label'] for row in read_rows('run')])
"""


def test_what_is_installed_works_outside_the_checkout(installed, tmp_path):
    program, path = installed/'bin'/'synthlab', {'PYTHONPATH': str(installed)}
    assert 'Usage: synthlab' in run(sys.executable, program, '--help', cwd=tmp_path, **path)
    assert run(sys.executable, program, '--version', cwd=tmp_path, **path) == f'synthlab {synthlab.__version__}\n'
    run(sys.executable, program, 'generate', 'sst2', '--recipe', 'fewgen', '--n', '1', '--out', 'run', cwd=tmp_path, **path)
    assert run(sys.executable, '-c', OUTSIDE, installed, cwd=tmp_path, **path) in ("['positive']\n", "['negative']\n")


def test_messages_name_extras_that_there_are():
    "Every extra that a module tells users to install is one of settings.ini, and no message names the distribution by hand."
    texts = {path.name: path.read_text(encoding='utf-8') for path in (ROOT/'synthlab').rglob('*.py') if path.name != '__init__.py'}
    named = {extra for text in texts.values() for extra in re.findall(r"how_to_install\('(\w+)'\)", text)}
    assert named == {'structured', 'mauve', 'ner', 'offline', 'documents', 'pii', 'language', 'scale'} and all(f'{extra}_requirements' in SETTINGS for extra in named)
    # the doctor works where util cannot be imported, and names packages besides extras
    assert sorted(name for name, text in texts.items() if 'pip install' in text) == ['doctor.py', 'util.py']
    assert how_to_install('ner') == f'pip install "{SETTINGS["lib_name"]}[ner]"'


def test_the_doctor_knows_what_every_extra_is_for():
    assert set(_EXTRAS) == {key.removesuffix('_requirements') for key in SETTINGS if key.endswith('_requirements')}


def test_the_module_is_called_synthlab():
    assert SETTINGS['lib_path'] == synthlab.__name__ == 'synthlab' != SETTINGS['lib_name']
    assert {'settings', 'syms'} == set(synthlab._modidx.d) and synthlab._modidx.d['settings']['lib_path'] == 'synthlab'


def test_the_citation_is_whole_and_agrees_with_the_cards():
    cited = yaml.safe_load((ROOT/'CITATION.cff').read_text(encoding='utf-8'))
    assert cited['cff-version'] == '1.2.0' and {'message', 'title', 'authors'} <= cited.keys()
    assert cited['version'] == synthlab.__version__ and cited['license'] == 'Apache-2.0' and cited['repository-code'] == SETTINGS['git_url']
    papers = {reference['url'].rsplit('/', 1)[-1]: reference for reference in cited['references']}
    assert set(papers) == {'2411.08553', '2502.08661', '2310.17876'}
    for name in ('corrsynth', 'synalign', 'targen'):
        entry = dict(re.findall(r'(\w+) += {(.*)}', _papers()[name]))
        paper = papers[entry['url'].rsplit('/', 1)[-1]]
        assert paper['title'] == entry['title'] and paper['year'] == int(entry['year'])
        assert ' and '.join(f"{author['family-names']}, {author['given-names']}" for author in paper['authors']) == entry['author']


def test_the_changelog_has_this_version():
    heads = re.findall(r'(?m)^## \[(.+?)\]', (ROOT/'CHANGELOG.md').read_text(encoding='utf-8'))
    assert heads[0] == 'Unreleased' and SETTINGS['version'] in heads


CHANGES = '# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2027-01-02\n\n### Added\n\n- Owls ([a page](x)).\n\n## [0.1.0]\n\nFirst.\n\n[0.2.0]: https://x\n[0.1.0]: https://y\n'


def test_the_notes_of_a_release_are_its_entry_in_the_changelog():
    assert entries(CHANGES) == {'Unreleased': '', '0.2.0': '### Added\n\n- Owls ([a page](x)).', '0.1.0': 'First.'}
    settings = '[DEFAULT]\nversion = 0.2.0\nauthor_email =\n'
    assert release_notes('v0.2.0', CHANGES, settings) == entry(CHANGES, '0.2.0')
    assert release_notes('0.1.0', CHANGES, settings, any_version=True) == 'First.'
    for tag, fault in (('v0.1.0', 'settings.ini has the version 0.2.0'), ('main', 'is no version'), ('v0.2.0\n', 'is no version')):
        with pytest.raises(ValueError, match=fault): release_notes(tag, CHANGES, settings)
    for version, fault in (('Unreleased', 'has no text below'), ('0.3.0', 'has no heading')):
        with pytest.raises(ValueError, match=fault): entry(CHANGES, version)
    assert current((ROOT/'settings.ini').read_text(encoding='utf-8')) == synthlab.__version__
    assert entry((ROOT/'CHANGELOG.md').read_text(encoding='utf-8'), synthlab.__version__)


def workflow(name): return yaml.safe_load((ROOT/'.github'/'workflows'/f'{name}.yml').read_text(encoding='utf-8'))
def steps(job): return [step.get('run', '') for step in job['steps']]


def test_the_workflow_tests_what_the_classifiers_promise():
    tests = workflow('tests')
    promised = re.findall(r'Programming Language :: Python :: (3\.\d+)', SETTINGS['classifiers'])
    matrix = tests['jobs']['tests']['strategy']['matrix']
    assert matrix['python'] == promised and {system.split('-')[0] for system in matrix['os']} == {'ubuntu', 'macos', 'windows'}
    assert set(tests['jobs']['newest']['strategy']['matrix']['python']) == {promised[0], promised[-1]}
    # YAML reads the key `on` as true
    assert {'push', 'pull_request', 'schedule', 'workflow_call'} <= set(tests[True])


def test_the_workflow_does_what_make_does_without_make():
    tests, makefile = workflow('tests'), (ROOT/'Makefile').read_text(encoding='utf-8')
    assert f"TORCH ?= {tests['env']['TORCH']}\n" in makefile
    recipe = makefile.replace('$$', '$').replace('$(WORKERS)', '2').replace('$(PYTEST_WORKERS)', '3').replace('\\\n\t\t', '').replace(' --flags "$(FLAGS)"', '')
    run = [line for line in steps(tests['jobs']['tests']) if 'pytest' in line or 'nbdev_test' in line]
    assert len(run) == 3 and all(line.removeprefix('python -m ') in recipe for line in run)
    assert not any('make ' in line or '$' in line.replace('${{ env.TORCH }}', '').replace("tutorials$'", '') for line in steps(tests['jobs']['tests']))


def test_a_release_publishes_only_what_was_tested_and_keeps_no_token():
    jobs = workflow('release')['jobs']
    assert (jobs['tests']['needs'], jobs['publish']['needs'], jobs['github']['needs']) == ('notes', 'tests', 'publish')
    assert jobs['publish']['permissions'] == {'id-token': 'write'} and 'secrets.' not in (ROOT/'.github'/'workflows'/'release.yml').read_text(encoding='utf-8')
    uploaded = {step['with']['name'] for job in (jobs['notes'], workflow('tests')['jobs']['wheel']) for step in job['steps'] if 'upload-artifact' in step.get('uses', '')}
    used = {step['with']['name'] for name in ('publish', 'github') for step in jobs[name]['steps'] if 'download-artifact' in step.get('uses', '')}
    assert used == uploaded == {'dist', 'notes'}


def test_issue_forms_ask_for_what_the_doctor_says():
    forms = {path.stem: yaml.safe_load(path.read_text(encoding='utf-8')) for path in (ROOT/'.github'/'ISSUE_TEMPLATE').glob('*.yml')}
    assert set(forms) == {'bug', 'feature', 'question', 'config'}
    for name in set(forms) - {'config'}:
        ids = [part['id'] for part in forms[name]['body'] if part['type'] != 'markdown']
        assert len(ids) == len(set(ids)) and forms[name]['name'] and forms[name]['description']
    asked = {part.get('id'): part for part in forms['bug']['body']}
    assert asked['doctor']['validations']['required']


def test_pocket_says_in_its_first_lines_what_it_was_trained_on():
    card = (ROOT/'synthlab'/'resources'/'pocket'/'README.md').read_text(encoding='utf-8')
    _, header, text = card.split('---\n', 2)
    assert yaml.safe_load(header)['license'] == 'other' and 'research' in yaml.safe_load(header)['license_name']
    assert 'research or non-commercial purposes only' in ' '.join(text.split('\n')[:6])
    assert card.startswith((ROOT/'nbs'/'pocket'/'card.md').read_text(encoding='utf-8').split('{sources}')[0])
