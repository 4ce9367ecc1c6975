"The commands do what they say, refuse what makes no sense in one line, and lose nothing when they are stopped."
import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import pytest
import typer
from hub_stand_in import Hub
from huggingface_hub import DatasetCard
from light import run_light
from synthlab import Recipe, __version__, generate
from synthlab.cli import main as cli, runs, terminal
from synthlab.run import writers
from synthlab.run import produce, rows as rows_module
from synthlab.store.calls import line_hash
from synthlab.store.runs import read_rows
from synthlab.tasks.task import Task, load_task, task_names
from synthlab.tasks.trust import pocket_figures

ROOT = Path(__file__).parents[2]
SHORT = '--max-new-tokens 12 --shots 1'.split()
ENVIRONMENT = os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}


@pytest.fixture
def synthlab(tmp_path, monkeypatch, capsys):
    "Runs a command in an empty folder; tells its exit status and what it printed."
    monkeypatch.chdir(tmp_path)
    def run(*words):
        capsys.readouterr()
        status = cli.main([str(word) for line in words for word in (line.split() if isinstance(line, str) else line)])
        return status, *capsys.readouterr()
    return run


def rows(out): return [json.loads(line) for line in (Path(out)/'dataset.jsonl').read_text(encoding='utf-8').split('\n')[:-1]]


def labels(out):
    found = [row['label'] for row in rows(out)]
    return {label: found.count(label) for label in found}


def recipe(out): return tomllib.loads((Path(out)/'recipe.toml').read_text(encoding='utf-8'))


# ---- generate

def test_generate_writes_a_dataset_and_shows_it(synthlab):
    status, out, err = synthlab('generate ag_news --recipe corrsynth --n 10 --teacher pocket --gamma 1 --delta 0.9 --alpha 0.001 --mode cross '
                                '--repeats 2 --seed 0 --out runs/demo', SHORT)
    assert status == 0, err
    assert {p.name for p in Path('runs/demo').iterdir()} == {'dataset.parquet', 'dataset.jsonl', 'recipe.toml', 'README.md', 'run.db'}
    assert labels('runs/demo') == {'World': 3, 'Sports': 3, 'Business': 2, 'Sci/Tech': 2}
    assert recipe('runs/demo')['method']['decode'] == {'choice': 'correlated', 'gamma': 1.0, 'delta': 0.9, 'alpha': 0.001, 'mode': 'cross', 'repeats': 2,
                                             'intra_share': 0.5, 'eos': 'renormalise'}
    assert recipe('runs/demo')['synthlab'] == __version__ and len(recipe('runs/demo')['task']['labels']) == 4
    assert all(part in out for part in ('World', 'Sci/Tech', '10 of 10', '16 texts were written: 10 accepted, 6 rejected (surplus).',
                                        'runs/demo/dataset.parquet', 'runs/demo/README.md'))
    card = DatasetCard.load('runs/demo/README.md')
    assert card.data.language == 'en' and '| candidates written by the teacher | 16 |' in card.text


def test_python_takes_a_run_of_the_command_line_for_its_own(synthlab):
    assert synthlab('generate ag_news --recipe fewgen --n 4 --out runs/demo', SHORT)[0] == 0
    again = generate('ag_news', 4, Recipe.fewgen(shots=1), out='runs/demo', max_new_tokens=12)
    assert list(again['id']) == [row['id'] for row in rows('runs/demo')]


def test_evaluate_says_what_a_guess_would_find_and_how_far_pocket_can_be_trusted(synthlab):
    Path('mine.toml').write_text('name = "pets"\n' + ''.join(
        f'[[labels]]\nname = "{pet}"\ndemonstrations = ["my {pet} is old", "the {pet} next door is young"]\n' for pet in ('cat', 'dog', 'bird')))
    assert synthlab('generate mine.toml --recipe fewgen --n 6 --out runs/pets', SHORT)[0] == 0
    status, out, err = synthlab('evaluate runs/pets --student none')
    assert status == 0, err
    assert 'labels at random would be right on 33%' in ' '.join(out.split()) and 'pocket was not trained for the task' in ' '.join(out.split())


@pytest.mark.parametrize('options', ['--recipe fewgen', '--recipe cfg --delta 0.5', '--mode intra --repeats 2', '--mode hybrid --repeats 2 --intra-share 0.3',
                                     '--mode all --eos drop', '--temperature 0 --shots 0 --duplicates keep', '--top-k 5 --top-p 1 --shared-demonstrations', '--dtype bfloat16 --device cpu'])
def test_every_recipe_and_option_runs(synthlab, options):
    status, _, err = synthlab('generate sst2 --n 4 --max-new-tokens 8 --out run', options)
    assert status == 0, err
    assert labels('run') == {'negative': 2, 'positive': 2}


def test_the_same_seed_gives_the_same_rows(synthlab):
    for out, seed in [('one', 0), ('two', 0), ('other', 1)]: assert synthlab(f'generate sst2 --n 4 --seed {seed} --out {out}', SHORT)[0] == 0
    texts = [[row['text'] for row in rows(out)] for out in ('one', 'two', 'other')]
    assert texts[0] == texts[1] != texts[2]


def test_proportions_by_name_and_alias(synthlab):
    assert synthlab('generate ag_news --n 8 --recipe fewgen --proportions', ['world=0.5,1=0.25,Sci/Tech=0.25'], '--out run', SHORT)[0] == 0
    assert labels('run') == {'World': 4, 'Sports': 2, 'Sci/Tech': 2}


def test_demonstrations_from_a_file(synthlab):
    Path('mine.csv').write_text('text,label\n' + ''.join(f'"What a {word} film, number {i}.",{label}\n' for i in range(3)
                                                         for word, label in [('good', 'positive'), ('bad', 'negative')]))
    assert synthlab('generate sst2 --n 2 --gold mine.csv --out run', SHORT)[0] == 0
    assert all(len(row['demos']) == 1 and not row['demos'][0].startswith('sst2/') for row in rows('run'))
    Path('mine.csv').write_text(Path('mine.csv').read_text().replace('What a', 'Such a'))
    status, _, err = synthlab('generate sst2 --n 3 --gold mine.csv --out run', SHORT)
    assert status == 2 and 'n: 2 there, 3 now' in err and 'examples:' in err


def test_a_task_of_ones_own(synthlab):
    status, toml, _ = synthlab('tasks show sst2')
    assert status == 0
    Path('mine.toml').write_text(toml.replace('name = "sst2"', 'name = "mine"', 1), encoding='utf-8')
    assert synthlab('generate mine.toml --n 2 --out run', SHORT)[0] == 0
    assert recipe('run')['task']['name'] == 'mine' and 'language' not in recipe('run')


def test_a_folder_as_teacher(synthlab):
    folder = Path(os.environ.get('SYNTHLAB_MODELS', 'nowhere'))/'stories260K'
    if not folder.exists(): pytest.skip('no SYNTHLAB_MODELS')
    assert synthlab('generate sst2 --n 2 --max-new-tokens 8 --shots 0 --out run --teacher', [folder])[0] == 0
    assert recipe('run')['teacher']['name'] == str(folder)


def test_how_a_large_model_is_loaded_is_kept_in_the_run(synthlab):
    "On a CPU neither option changes a row."
    assert synthlab('generate sst2 --recipe fewgen --n 2 --device-map auto --compiled --out run', SHORT)[0] == 0
    assert synthlab('generate sst2 --recipe fewgen --n 2 --out plain', SHORT)[0] == 0
    machine = recipe('run')['machine']
    assert (machine['device_map'], machine['compiled']) == ('auto', True) and not {'device_map', 'compiled'} & {*recipe('plain')['machine']}
    assert rows('run') == rows('plain')
    # the model is spread when the run goes on, unless another place is named
    with patch.object(produce, 'CausalTeacher') as made: produce.make_teacher(recipe('run'))
    assert {name: made.call_args.kwargs[name] for name in ('device', 'device_map', 'compiled')} == {'device': 'auto', 'device_map': 'auto', 'compiled': True}
    assert synthlab('resume run --device cpu')[0] == 0


def test_fewer_rows_than_asked_is_said(synthlab, monkeypatch):
    reject = rows_module.rejection
    monkeypatch.setattr(rows_module, 'rejection', lambda text, shown=(): 'too dull' if len(text) % 2 else reject(text, shown))
    status, out, err = synthlab('generate sst2 --n 8 --budget 8 --out run', SHORT)
    assert status == 1
    assert 'rejected (too dull)' in out and 'rows are missing' in err and 'Traceback' not in err
    assert '**The run fell short.**' in Path('run/README.md').read_text()


# ---- refusals

BAD = {
    'no such task': ('ag_new', "did you mean 'ag_news'"), 'no such file': ('mine.toml', 'mine.toml'),
    'no such recipe': ('sst2 --recipe corsynth', 'corsynth'), 'no number': ('sst2 --n many', '--n'), 'no rows': ('sst2 --n 0', '--n'),
    'idle gamma': ('sst2 --recipe fewgen --gamma 2', '--gamma: the recipe fewgen does not use it'),
    'idle repeats': ('sst2 --recipe fewgen --repeats 2', '--repeats'), 'idle eos': ('sst2 --recipe cfg --eos drop', '--eos: the recipe cfg does not use it (decode = "correlated"'),
    'idle share': ('sst2 --intra-share 0.2', '--intra-share: only --mode hybrid uses it'), 'idle gold': ('sst2 --shots 0 --gold rows', '--gold: with shots = 0'),
    'delta above gamma': ('sst2 --delta 2', 'delta must'), 'alpha': ('sst2 --alpha 2', '--alpha'), 'top-p': ('sst2 --top-p 0', 'top_p'),
    'no such label': ('sst2 --proportions good=1', "names 'good'"), 'proportions': ('sst2 --proportions positive', 'cannot be read'),
    'no data': ('sst2 --gold nowhere.csv', 'nowhere.csv'), 'no teacher': ('sst2 --teacher ./nowhere', 'nowhere'), 'dtype': ('sst2 --dtype float99', 'float99'),
    'device': ('sst2 --device warp', 'warp'), 'too many shots': ('sst2 --shots 99', '99'), 'budget': ('sst2 --n 50 --budget 10', 'budget'),
    'max rows': ('ag_news --max-rows 2', 'max_rows'), 'too long': ('sst2 --max-new-tokens 100000', 'context'), 'no such option': ('sst2 --gama 1', '--gama'),
}


@pytest.mark.parametrize('words, told', BAD.values(), ids=BAD)
def test_bad_requests_get_one_line(synthlab, words, told):
    status, out, err = synthlab('generate', words, '--out runs/bad')
    assert status == 2 and told in err and out == ''
    assert len(err.splitlines()) == 1 and 'Traceback' not in err
    assert not Path('runs').exists()


def test_missing_words_are_named(synthlab):
    assert 'task' in synthlab('generate --out run')[2]
    assert '--out' in synthlab('generate sst2')[2]
    assert synthlab('conjure')[0] == 2


def test_runs_are_not_overwritten(synthlab):
    command = 'generate sst2 --n 2 --out run', SHORT
    assert synthlab(*command)[0] == 0
    before = Path('run/dataset.jsonl').read_bytes()
    status, out, _ = synthlab(*command)
    assert status == 0 and 'finished before' in out and Path('run/dataset.jsonl').read_bytes() == before
    for options, told in [('--seed 1', 'seed: 0 there, 1 now'), ('--overwrite --budget 1', 'budget')]:
        status, _, err = synthlab(*command, options)
        assert status == 2 and told in err and Path('run/dataset.jsonl').read_bytes() == before
    Path('poems').mkdir()
    Path('poems/rose.txt').write_text('a rose')
    assert 'which is no run' in synthlab('generate sst2 --n 2 --overwrite --out poems', SHORT)[2]
    assert synthlab(*command, '--seed 1 --overwrite')[0] == 0
    assert Path('run/dataset.jsonl').read_bytes() != before


def test_bugs_keep_their_traceback(synthlab, monkeypatch):
    monkeypatch.setattr(writers, 'make_rows', lambda *_, **__: [][0])
    with pytest.raises(IndexError): synthlab('generate sst2 --n 2 --out run', SHORT)


# ---- stopping and going on

COMMAND = 'generate ag_news --n 20 --max-rows 4 --max-new-tokens 30 --delta 0.5 --out run'.split()


def start(folder): return subprocess.Popen([sys.executable, '-m', 'synthlab.cli.main', *COMMAND], cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


def groups(folder):
    "How many groups the run in the folder has stored."
    if not (folder/'run'/'run.db').exists(): return 0
    try: return sqlite3.connect(f"file:{folder/'run'/'run.db'}?mode=ro", uri=True, timeout=10).execute('SELECT count(*) FROM groups').fetchone()[0]
    except sqlite3.OperationalError: return 0                         # the tables are being made


def stop(process, folder, how):
    "Stop the process when it has stored a group or two."
    until = time.monotonic() + 120
    while groups(folder) < 2 and process.poll() is None and time.monotonic() < until: time.sleep(0.01)
    process.send_signal(how)
    return process.wait(60), process.stderr.read()


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "The rows of a run that nobody disturbed."
    folder = tmp_path_factory.mktemp('whole')
    assert start(folder).wait(120) == 0
    return rows(folder/'run')


def agree(found, expected):
    "Whether rows are the same, numbers up to rounding."
    assert [row['text'] for row in found] == [row['text'] for row in expected]
    for one, other in zip(found, expected): assert one == pytest.approx(other, abs=1e-4) if isinstance(one, float) else one.keys() == other.keys()
    for key in ('id', 'label', 'group', 'member', 'demos', 'prompt_hash', 'tokens', 'status', 'finish_reason'):
        assert [row[key] for row in found] == [row[key] for row in expected], key


@pytest.mark.long
@pytest.mark.parametrize('how, status', [pytest.param(signal.SIGKILL, -signal.SIGKILL, marks=pytest.mark.long), (signal.SIGINT, 130)], ids=['killed', 'ctrl-c'])
def test_what_was_stopped_goes_on(tmp_path, whole, how, status):
    found, said = stop(start(tmp_path), tmp_path, how)
    assert found == status, said
    kept = list(read_rows(tmp_path/'run'))
    assert 0 < len(kept) < 20
    if how == signal.SIGINT: assert re.search(rf'Stopped\. {len(kept)} rows and \d+ calls are kept in run; the same command, or synthlab resume run, goes on from there\.', said) and 'Traceback' not in said
    again = start(tmp_path)
    assert again.wait(120) == 0, again.stderr.read()
    assert rows(tmp_path/'run')[:len(kept)] == kept
    agree(rows(tmp_path/'run'), whole)


# ---- the other commands

def test_tasks_are_listed(synthlab):
    status, out, _ = synthlab('tasks')
    assert status == 0 and all(name in out for name in task_names())


@pytest.mark.parametrize('name', task_names())
def test_tasks_are_shown_as_toml(synthlab, name):
    status, out, err = synthlab('tasks show', name)
    assert (status, err) == (0, '')
    assert Task(**tomllib.loads(out)) == load_task(name)


def test_no_such_task_is_one_line(synthlab):
    status, out, err = synthlab('tasks show ag_new')
    assert (status, out, len(err.splitlines())) == (2, '', 1)


@pytest.mark.long
def test_demo_can_be_repeated(synthlab):
    found = []
    for n in (8, 8):
        status, out, err = synthlab(f'demo --n {n} --out runs/demo --no-measure')
        assert status == 0, err
        assert all(part in out for part in ('fewgen', 'combined', 'runs/demo-fewgen')) and 'Measures' not in out
        # combined keeps confirmed surplus, and how much there is depends on how a processor rounds
        kept = Counter(row['label'] for row in rows('runs/demo-combined'))
        assert len(rows('runs/demo-fewgen')) == n
        assert all(kept[label] >= n//4 for label in load_task('ag_news').label_names)
        assert kept == json.loads(synthlab('status runs/demo-combined --json')[1])['accepted']
        found.append([row['id'] for name in ('fewgen', 'combined') for row in rows(f'runs/demo-{name}')])
    assert found[0] == found[1]
    assert not Path('runs/demo').exists()


def test_demo_ends_with_reports(synthlab, monkeypatch, tmp_path):
    monkeypatch.setenv('SYNTHLAB_CACHE', str(tmp_path/'cache'))
    status, out, err = synthlab('demo --n 8')
    assert status == 0, err
    for name in ('self_bleu ↓', 'vendi_score ↑', 'label_preservation ↑', 'student_synthetic ↑'):
        assert re.search(rf'{name} +│ +[\d.,]+.*│ +[\d.,]+', out), name
    for name in ('demo-compare.html', 'demo-fewgen/report.html', 'demo-combined/report.html', 'demo-fewgen/metrics.json', 'demo-combined/metrics.json'):
        assert Path('runs', name).exists(), name
    assert (tmp_path/'cache'/'embeddings.db').exists()


def test_demo_replaces_only_its_own(synthlab):
    assert synthlab('generate ag_news --n 4 --recipe fewgen --out runs/demo-fewgen', SHORT)[0] == 0
    before = Path('runs/demo-fewgen/dataset.jsonl').read_bytes()
    status, _, err = synthlab('demo --n 8')
    assert status == 2 and 'was asked for something else' in err
    assert Path('runs/demo-fewgen/dataset.jsonl').read_bytes() == before


def test_program(synthlab):
    assert synthlab('--version') == (0, f'synthlab {__version__}\n', '')
    for words in ('', '--help'):
        status, out, _ = synthlab(words)
        assert status == 0 and all(command in out for command in ('generate', 'demo', 'tasks'))
    done = subprocess.run([sys.executable, '-m', 'synthlab.cli.main', 'tasks', 'show', 'nothing'], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("no task 'nothing'")


def test_help_shows_defaults_and_teaches(synthlab):
    words = ' '.join(re.sub('[│╭╮╰╯─]', ' ', synthlab('generate --help-all')[1]).split())
    assert all(part in words for part in ('[0.9]', 'A larger delta means less contrast', 'Decode: how are tokens drawn?', 'synthlab generate ag_news'))


@pytest.mark.parametrize('command, number, needed', [('generate', 15, {'out'}), ('bake-off', 16, {'recipes', 'budget', 'out'})])
def test_help_shows_the_common_options_and_help_all_every_one(synthlab, command, number, needed):
    "The help of generate listed about eighty options."
    def options(out): return set(re.findall(r'^│ [* ]*(--[a-z-]+)', out, re.M))
    every = {max(part.opts, key=len) for part in typer.main.get_command(cli.app).commands[command].params if part.param_type_name == 'option'}
    few, found = options(synthlab(f'{command} --help')[1]), options(synthlab(f'{command} --help-all')[1])
    assert len(few - {'--help', '--help-all'}) == number and {f'--{name}' for name in needed} <= few
    assert found == every | {'--help'} and f'{len(every) - number - 1} more options: synthlab {command} --help-all' in synthlab(f'{command} --help')[1]


def test_a_command_with_few_options_shows_all(synthlab):
    for command in ('evaluate', 'compare', 'resume'): assert len(re.findall(r'^│ [* ]*--', synthlab(f'{command} --help')[1], re.M)) <= 17


def test_pocket_says_that_it_was_not_trained_for_a_task(synthlab):
    Path('mine.toml').write_text('name = "tickets"\ninstruction = "Write a message: {{ label }}."\nlabels = ["broken", "question"]\n')
    status, out, err = synthlab('generate mine.toml --n 2 --shots 0 --recipe fewgen --out mine', ['--max-new-tokens', '8'])
    assert status == 0 and err.count('pocket was not trained for the task') == 1 and f"where chance is {pocket_figures()['chance']:.0%}" in err
    assert 'was not trained for' in Path('mine/README.md').read_text()
    assert 'not trained for' not in synthlab('generate sst2 --n 2 --recipe fewgen --out known', SHORT)[2]


# ---- many labels

MANY = 'name = "many"\ninstruction = "Write a text about {{{{ label }}}}."\nlabels = [{}]\n'.format(', '.join(f'"topic {n}"' for n in range(77)))


def test_tables_of_77_labels_stay_within_40_lines(synthlab):
    Path('many.toml').write_text(MANY)
    def longest_table(out):
        parts = re.split(r'^(?=[A-Zr].*\n┏)', out, flags=re.M)[1:]
        return max(len(re.match(r'.*\n(?:[┏┃┡│└├┗].*\n)+(?:.* more: .*\n)?', part)[0].splitlines()) for part in parts)
    status, out, err = synthlab('generate many.toml --n 80 --shots 0 --recipe fewgen --max-new-tokens 8 --max-rows 80 --out run')
    assert status in (0, 1), err
    assert longest_table(out) <= 40 and 'more: run/dataset.jsonl' in out and re.search(r'│ all +│ +\d+ of 80 │', out)
    status, out, err = synthlab('status run')
    assert status == 0 and longest_table(out) <= 40 and re.search(r'^\d+ more: run/README.md', out, re.M) and '│ all' in out


# ---- status, resume, replay, export

def test_a_run_is_looked_at_continued_and_handed_on(synthlab):
    status, out, _ = synthlab('generate sst2 --n 6 --recipe fewgen --max-calls 2 --out run', SHORT)
    assert status == 1 and 'Stopped by the budget: max_calls = 2' in out
    assert len(rows('run')) == 4
    status, out, _ = synthlab('status run')
    assert status == 0 and 'synthlab resume run' in out and '2 calls' in out and '4 texts were written: 4 accepted.' in out
    assert 'Limits: max_calls = 2.' in out
    status, out, _ = synthlab('resume run')
    assert status == 1 and len(rows('run')) == 4 and recipe('run')['machine']['limits'] == {'max_calls': 2}     # a limit stays until another is given
    status, out, err = synthlab('resume run --max-calls 9')
    assert status == 0 and len(rows('run')) == 6 and recipe('run')['machine']['limits'] == {'max_calls': 9}, err
    assert 'Finished.' in synthlab('status run')[1]
    whole = synthlab('generate sst2 --n 6 --recipe fewgen --out whole', SHORT)
    assert whole[0] == 0 and [row | {'sampling': 0} for row in rows('run')] == [row | {'sampling': 0} for row in rows('whole')]
    status, out, _ = synthlab('replay run', rows('run')[3]['id'])
    assert status == 0 and 'The texts agree.' in out and 'from the stored call' in out and 'asked again' in out
    status, out, _ = synthlab('export run --format csv --to sent')
    assert status == 0 and {path.name for path in Path('sent').iterdir()} == {'dataset.csv', 'README.md', 'recipe.toml'}


def test_a_run_is_sent_to_the_hub(synthlab, tmp_path):
    assert synthlab('generate sst2 --n 4 --recipe fewgen --out run', SHORT)[0] == 0
    token = 'hf_planted_token_that_must_not_leak'
    clean = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(('HF_', 'HUGGING'))}
    with Hub(token) as hub:
        environment = clean | {'HF_ENDPOINT': hub.url, 'HF_TOKEN': token, 'HF_HUB_DISABLE_XET': '1', 'HF_HOME': str(tmp_path/'hf')}
        done = subprocess.run([sys.executable, '-m', 'synthlab.cli.main', *'export run --format hub --repo me/pets'.split()], env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and f'{hub.url}/datasets/me/pets/commit/' in done.stdout, done.stderr
        assert hub.repos['me/pets'].private and set(hub.repos['me/pets'].files) == {'dataset.parquet', 'README.md', 'recipe.toml'}
    assert token not in done.stdout + done.stderr and not any(token.encode() in path.read_bytes() for path in tmp_path.rglob('*') if path.is_file())


def test_a_row_that_was_changed_is_found_out(synthlab):
    assert synthlab('generate sst2 --n 2 --recipe fewgen --out run', SHORT)[0] == 0
    row = rows('run')[0]
    with contextlib.closing(sqlite3.connect('run/run.db')) as db, db: db.execute("UPDATE rows SET row = json_set(row, '$.text', 'forged') WHERE id = ?", [row['id']])
    status, _, err = synthlab('replay run', row['id'])
    assert status == 2 and 'is damaged' in err
    # with a hash that fits the forged row, the calls still tell
    with contextlib.closing(sqlite3.connect('run/run.db')) as db, db:
        db.create_function('line_hash', -1, line_hash)
        db.execute('UPDATE rows SET hash = line_hash(number, member, id, status, label, reason, row) WHERE id = ?', [row['id']])
    status, out, _ = synthlab('replay run', row['id'])
    assert status == 1 and 'The texts differ.' in out and 'forged' in out and all(word in out for word in row['text'].split())


def test_a_fork_takes_the_calls_along(synthlab):
    assert synthlab('generate sst2 --n 4 --recipe fewgen --out run', SHORT)[0] == 0
    status, out, err = synthlab('generate sst2 --n 6 --recipe fewgen --fork run --out more', SHORT)
    assert status == 0 and rows('more')[:4] == rows('run'), err
    assert '3 calls' in synthlab('status more')[1]
    assert synthlab('generate sst2 --n 8 --recipe fewgen --fork run --max-calls 2 --out limited', SHORT)[0] == 0        # the two that were taken along are paid for
    status, out, _ = synthlab('generate sst2 --n 6 --recipe fewgen --fork run --estimate --out none', SHORT)
    assert '1' in out and 'at most 0' not in out


def test_an_estimate_asks_for_nothing(synthlab):
    status, out, _ = synthlab('generate sst2 --n 6 --recipe fewgen --estimate --out run', SHORT)
    assert status == 0 and 'unknown' in out and not Path('run').exists()


@pytest.mark.parametrize('words, told', [
    ('status nothing', 'nothing holds no run'), ('resume nothing', 'nothing holds no run'), ('replay nothing abc', 'nothing holds no run'), ('export nothing', 'nothing holds no run'),
    ('export nothing --format hub', '--format hub needs --repo USER/NAME'), ('export nothing --repo me/pets', '--repo goes with --format hub'),
    ('generate sst2 --base-url http://127.0.0.1:9/v1 --teacher owl --out run', 'FewGen'),
    ('generate sst2 --base-url http://127.0.0.1:9/v1 --device cpu --recipe fewgen --out run', '--device: a server decides it'),
    ('generate sst2 --concurrency 3 --out run', '--concurrency: there is no --base-url'),
    ('generate sst2 --max-cost 3 --out run', 'price')])
def test_what_cannot_be_done_to_a_run_is_one_line(synthlab, words, told):
    status, _, err = synthlab(words)
    assert status == 2 and told in ' '.join(err.split()) and 'Traceback' not in err and not Path('run').exists()


@pytest.mark.parametrize('text', ['[red]hot[/red]', '[/]', '\x1b[2J\x1b]0;title\x07', 'two\nlines\r\tand a tab', '\u202eright to left', ':smile:'])
def test_texts_are_shown_and_never_read(text, capsys):
    terminal.screen.print(terminal.shown(text))
    shown = capsys.readouterr().out
    assert '\x1b' not in shown and '\x07' not in shown and shown.count('\n') == 1
    assert shown.strip() == ' '.join(text.split()).replace('\x1b', '\ufffd').replace('\x07', '\ufffd')


# ---- evaluate and compare

@pytest.fixture
def two_runs(synthlab):
    "Two small runs, of 12 and of 16 rows."
    for name, n in (('a', 12), ('b', 16)): assert synthlab(f'generate ag_news --n {n} --recipe fewgen --out runs/{name}', SHORT)[0] == 0


def test_evaluate_writes_a_record_and_a_report(synthlab, two_runs):
    status, out, err = synthlab('evaluate runs/a --student none')
    assert status == 0, err
    record = json.loads(Path('runs/a/metrics.json').read_text())
    assert record['sizes']['rows'] == 12 and record['sizes']['gold_test'] == 100 and record['counts']['asked'] == 12
    assert all(part in out for part in ('self_bleu ↓', 'Not measured: student_synthetic', 'runs/a/report.html'))


def test_evaluate_on_gold_from_files(synthlab, two_runs):
    lines = [json.dumps({'text': text, 'label': label.name}) for label in load_task('ag_news').labels for text in label.tests[:10]]
    Path('test.jsonl').write_text('\n'.join(lines[::2])), Path('train.jsonl').write_text('\n'.join(lines[1::2]))
    status, _, err = synthlab('evaluate runs/a --gold test.jsonl --gold-train train.jsonl --seeds 1 --no-controls')
    assert status == 0, err
    record = json.loads(Path('runs/a/metrics.json').read_text())
    found = {entry['name']: entry for entry in record['sections']['student']}
    assert (record['sizes']['gold_test'], record['sizes']['gold_train']) == (20, 20)
    assert 0 <= found['student_synthetic']['value'] <= 1 and 'not asked for' in found['student_gold']['skipped']


def test_compare_takes_equal_sizes(synthlab, two_runs):
    status, out, err = synthlab('compare runs/a runs/b --student none --out page.html')
    assert status == 0, err
    assert '●' in out and 'page.html' in out and Path('page.html').exists()
    assert 'Measured on 12 of the 16 rows of b, as many as a has' in out and 'n ┃' in next(line for line in out.splitlines() if line.startswith('┃'))


def test_a_comparison_lies_beside_the_runs_and_its_place_is_said(synthlab, two_runs):
    "It was written into the current folder."
    before = set(Path().iterdir())
    status, out, err = synthlab('compare runs/a runs/b --student none')
    assert status == 0 and 'Side by side: runs/compare.html' in out and Path('runs/compare.html').exists() and set(Path().iterdir()) == before, err


def test_evaluate_says_what_is_ahead_and_how_to_get_mauve(synthlab, monkeypatch):
    "Two minutes went by without a word of the steps."
    monkeypatch.setitem(sys.modules, 'mauve', None)
    monkeypatch.delenv('TQDM_DISABLE', raising=False)
    lines = [json.dumps({'text': f'{text} {n}', 'label': label.name}) for label in load_task('ag_news').labels for n, text in enumerate(label.tests[:8])]
    Path('mine.jsonl').write_text('\n'.join(lines))
    status, out, err = synthlab('evaluate mine.jsonl --task ag_news --student probe --seeds 1')
    assert status == 0 and '0/21' in err and 'student_both' in err, err             # the bar counts measures, and names them
    out = ' '.join(out.split())
    assert 'then up to 3 students are trained (a moment each)' in cli._ahead('probe', 1, True, False)
    assert 'no student is trained' in cli._ahead('none', 3, True, False) and 'up to 28 students' in cli._ahead('auto', 3, True, True, 2)
    assert 'Not measured: mauve: mauve needs the package mauve-text' in out and '[mauve]"' in out


@pytest.mark.parametrize('rows, calls, told', [(0, 0, 'Nothing was finished yet; the same command, or synthlab resume run, begins again.'),
                                               (0, 1, 'No row was finished yet, and 1 call is kept in run; the same command, or synthlab resume run, goes on from there.'),
                                               (3, 2, '3 rows and 2 calls are kept in run; the same command, or synthlab resume run, goes on from there.')])
def test_what_an_early_stop_keeps_is_said_as_it_is(monkeypatch, capsys, rows, calls, told):
    "0 rows were kept, and the same command went on from there."
    monkeypatch.setattr(runs, 'read_status', lambda out: {'accepted': {'a': rows}, 'calls': {'calls': calls}, 'batches': []})
    assert runs._kept(Path('run')) == f'Stopped. {told}'


def test_what_is_not_measured_has_its_name(capsys):
    "A reason that only the second dataset has was printed without the measure: Not measured: : ..."
    metric = {'name': 'coverage', 'value': .5, 'interval': None, 'n': 10, 'better': 'higher', 'settings': {}}
    def record(name, entry): return {'name': name, 'task': 't', 'sizes': {'rows': 10}, 'sections': {'distribution': [entry]}}
    cli._show_records([record('a', metric), record('b', {'name': 'coverage', 'skipped': 'no gold rows'})])
    assert 'Not measured: coverage of b: no gold rows' in capsys.readouterr().out
    cli._show_records([record(name, {'name': 'coverage', 'skipped': 'no gold rows'}) for name in 'ab'])
    assert 'Not measured: coverage: no gold rows' in capsys.readouterr().out


def test_a_probe_can_be_the_student(synthlab, two_runs):
    status, out, err = synthlab('evaluate runs/a --student probe --no-controls')
    assert status == 0, err
    found = {entry['name']: entry for entry in json.loads(Path('runs/a/metrics.json').read_text())['sections']['student']}
    assert found['student_synthetic']['settings']['model'].startswith('Probe')
    status, out, err = synthlab('evaluate runs/a')                                # so few rows are learnt by a probe, and the terminal says why
    assert 'because 12 rows are fewer than 300' in out and 'a judge that has learnt from 20 rows (demonstrations written into the task)' in out


def test_a_file_is_evaluated_like_the_run_it_comes_from(synthlab, two_runs):
    for words in ('export runs/a --format csv --to out', 'evaluate runs/a --student none', 'evaluate out/dataset.csv --task ag_news --student none'):
        status, out, err = synthlab(words)
        assert status == 0, err
    assert 'out/dataset-metrics.json' in out and 'out/dataset-report.html' in out and 'self_bleu ↓' in out
    run, file = (json.loads(Path(name).read_text()) for name in ('runs/a/metrics.json', 'out/dataset-metrics.json'))
    assert run['sections'].pop('memorisation')[1:] == file['sections'].pop('memorisation')[1:] and run['sections'] == file['sections']         # only the demonstrations are not known
    assert (file['name'], file['task'], file['counts']['asked']) == ('dataset.csv', 'ag_news', None)
    assert '12 rows, measured as they were given.' in Path('out/dataset-report.html').read_text(encoding='utf-8')
    status, out, err = synthlab('compare runs/a out/dataset.csv --student none --out both.html')
    assert status == 0 and Path('both.html').exists(), err


def test_columns_and_the_place_of_the_report_are_named(synthlab):
    Path('mine.tsv').write_text(''.join(['review\tstars\n', *(f'{text}\t{name}\n' for name, texts in (('good', 'A joy.|So fine.|Lovely.'), ('bad', 'Dull.|A bore.|Flat.')) for text in texts.split('|'))]))
    status, out, err = synthlab('evaluate mine.tsv --text review --label stars --student none --out pages')
    assert status == 0, err
    record = json.loads(Path('pages/metrics.json').read_text())
    assert (record['task'], record['labels'], record['sizes']['rows']) == ('labels as given', ['bad', 'good'], 6) and Path('pages/report.html').exists()
    status, _, err = synthlab('evaluate mine.tsv --student none')
    assert status == 2 and "no column 'text'; the columns are 'review', 'stars'" in err


def test_a_mistyped_name_is_told_before_torch_is_loaded(tmp_path):
    (tmp_path/'mine.csv').write_text('text,label\nA joy.,World\n'), (tmp_path/'runs').mkdir()
    commands = 'evaluate mine.cvs --task ag_news', 'evaluate mine.csv --task agnews', 'evaluate mine.csv --gold yours.csv', 'evaluate nothing', 'compare mine.csv mine.cvs', 'compare mine.csv runs'
    for words, (status, _, heavy) in run_light(commands, ['torch', 'datasets'], cwd=tmp_path, env=ENVIRONMENT).items():
        assert status == 2 and not heavy, (words, status, heavy)


@pytest.mark.parametrize('words, complaint', {
    'no run': ('evaluate nothing', 'no run'), 'no such gold': ('evaluate runs/a --gold no.csv', 'no such file'), 'one run': ('compare runs/a', 'two runs'),
    'no student recipe': ('evaluate runs/a --student-recipe slow', 'slow'), 'no such extractor': ('evaluate runs/a --extractor magic --student none', 'magic')}.values())
def test_what_cannot_be_measured_is_one_line(synthlab, two_runs, words, complaint):
    status, out, err = synthlab(words)
    assert status == 2 and complaint in err.splitlines()[-1] and not Path('runs/a/metrics.json').exists()


def test_an_estimate_needs_no_folder(synthlab):
    status, out, err = synthlab('generate sst2 --recipe fewgen --n 4 --estimate', SHORT)
    assert status == 0 and 'completion tokens' in out, err
    assert not list(Path().iterdir())


def test_an_estimate_looks_at_the_actors(synthlab):
    "They were ignored: a wrong address was found when the run began."
    pytest.importorskip('ray')
    asked = 'generate sst2 --recipe fewgen --n 4 --estimate'
    for words, told in {'--ray nonsense': "'nonsense' is no address of a Ray cluster", '--actors 3': '--actors: there is no --ray'}.items():
        status, _, err = synthlab(asked, SHORT, words)
        assert status == 2 and told in ' '.join(err.split())
    status, out, err = synthlab(asked, SHORT, '--ray local --actors 3')
    assert status == 0 and 'The numbers hold for --ray local with 3 actors too' in out and 'No actor was started.' in out, err
