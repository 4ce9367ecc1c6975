"The embedded teacher answers every prompt of the library: each recipe that asks it questions ends with the rows that were wanted, for the built-in tasks and for one of a reader's own."
import csv
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from synthlab.cli.main import main
from synthlab.decode.model import model_path
from synthlab.decode.sampling import Sampling
from synthlab.embeddings import default_embedder
from synthlab.prompt.records import extract
from synthlab.prompt.seeds import SeedBank
from synthlab.tasks.gold import named_classes, written_rows
from synthlab.tasks.strategies import find_strategy
from synthlab.tasks.task import load_task, messages
from synthlab.teacher.asking import has_short_context
from synthlab.teacher.causal import CausalTeacher
from synthlab.teacher.requests import Request

pytest.importorskip('llguidance')
TASKS = ('ag_news', *(pytest.param(name, marks=pytest.mark.long) for name in ('imdb', 'sst2', 'humor', 'amazon_category', 'toi_headlines')))
OWN = '''
name = "tickets"
description = "What a message to a help desk is about"
instruction = "Write a short message to a help desk {{ verbalisation }}."
cue = "Message:"
max_new_tokens = 48

[[labels]]
name = "Broken"
verbalisation = "that reports something broken"
description = "The writer has a thing that does not work."

[[labels]]
name = "Question"
verbalisation = "that asks how something works"
description = "The writer wants to know how to do something."
'''


@pytest.fixture(scope='module')
def pocket(): return CausalTeacher('pocket')


def own_rows(folder, n=50):
    "A CSV file of a reader: rows of two labels, put together from words."
    rng = random.Random(0)
    things, faults, wishes = ('printer', 'screen', 'phone', 'account', 'lamp'), ('is dead', 'makes a noise', 'smells odd', 'shows nothing'), ('set up', 'clean', 'sell', 'reset')
    rows = [(f'My {rng.choice(things)} {rng.choice(faults)} since day {i}.', 'Broken') if i % 2 else (f'How do I {rng.choice(wishes)} the {rng.choice(things)} of room {i}?', 'Question') for i in range(n)]
    with (folder/'mine.csv').open('w', newline='', encoding='utf-8') as file: csv.writer(file).writerows([('text', 'label'), *rows])


def table(out): return named_classes(pq.read_table(out/'dataset.parquet')).to_pylist()


def checked(out, n, labels):
    "The rows of a run, after a look at what every run must have."
    rows = table(out)
    assert len(rows) == n and set(row['label'] for row in rows) <= set(labels)
    assert all(row['status'] == 'accepted' and row['text'].strip() and row['teacher'].startswith('pocket') for row in rows)
    assert len({row['id'] for row in rows}) == n
    return rows


@pytest.mark.parametrize('name', TASKS)
def test_synalign_on_every_built_in_task(name, tmp_path):
    assert main(['generate', name, '--recipe', 'synalign', '--n', '6', '--out', str(tmp_path/'run')]) == 0
    rows, task = checked(tmp_path/'run', 6, load_task(name).label_names), load_task(name)
    assert all(set(json.loads(row['attributes']) if isinstance(row['attributes'], str) else row['attributes']) >= set(task.attributes) for row in rows)
    assert all(row['weight'] >= 0 for row in rows)


@pytest.mark.parametrize('name', TASKS)
def test_targen_on_every_built_in_task(name, tmp_path):
    assert main(['generate', name, '--recipe', 'targen', '--n', '6', '--contexts', '2', '--policy', 'flag', '--out', str(tmp_path/'run')]) == 0
    rows = checked(tmp_path/'run', 6, load_task(name).label_names)
    assert all(json.loads(row['seed_text'])['subject'].lower() in row['text'].lower() for row in rows)
    assert all(row['label_corrected'] in load_task(name).label_names and row['context'] for row in rows)


@pytest.mark.parametrize('recipe', [pytest.param('synalign', marks=pytest.mark.long), 'targen', pytest.param('combined', marks=pytest.mark.long)])
def test_a_task_of_ones_own_with_fifty_rows(recipe, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'mine.toml').write_text(OWN, encoding='utf-8')
    own_rows(tmp_path)
    gold = [] if recipe == 'targen' else ['--gold', 'mine.csv']
    policy = ['--policy', 'flag'] if recipe == 'targen' else []
    assert main(['generate', 'mine.toml', '--recipe', recipe, *gold, *policy, '--n', '8', '--out', 'run']) == 0
    rows = checked(tmp_path/'run', 8, ('Broken', 'Question'))
    assert Counter(row['label'] for row in rows) == {'Broken': 4, 'Question': 4}
    assert main(['evaluate', 'run', '--gold', 'mine.csv', '--student', 'none']) == 0
    assert '</html>' in Path('run/report.html').read_text(encoding='utf-8') and Path('run/README.md').exists() and capfd.readouterr().out


def test_lists_hold_what_was_asked_for(pocket):
    bank = SeedBank(find_strategy(load_task('sst2')), pocket, contexts=6, context_batch=6, seeds_per_call=6)
    bank.grow(12, {})
    assert len(bank.contexts) == 6 == len(set(bank.contexts)) and len(bank.seeds) >= 12 and not bank.stopped


def test_attributes_say_how_long_a_text_is(pocket):
    "Lengths were counted for the training, so they must come close; tone was not, so nothing is claimed of it."
    short, long = 'A dull film.', ' '.join(['The plot goes nowhere, and the second half is slower than the first, which nobody in the hall had thought possible.']*2)
    told = {record.source: record.attributes['form_and_length'] for record in extract({'negative': [{'id': 'short', 'text': short}, {'id': 'long', 'text': long}]}, load_task('sst2'), pocket).records}
    words = {source: int(''.join(filter(str.isdigit, value))) for source, value in told.items()}
    assert 2*words["short"] <= words["long"], told


@pytest.mark.long
def test_texts_are_near_to_the_demonstration_that_they_follow(pocket):
    "Nearer than to those of other texts of the label; the packaged weights reach about .1, ones that do not look at demonstrations .02."
    task, embedder = load_task('ag_news'), default_embedder()
    shown = list(written_rows(task, 'test'))[::2]
    requests = [Request(messages(task, row['label'], (row['text'],)), Sampling(task.max_new_tokens, .95, .9), cue=task.cue, seed=n) for n, row in enumerate(shown)]
    written = [reply.text or '-' for reply in pocket.complete(requests, repair=False, progress=False)]
    cosines = np.asarray(embedder.encode(written)) @ np.asarray(embedder.encode([row['text'] for row in shown])).T
    labels = np.array([row['label'] for row in shown])
    others = np.equal.outer(labels, labels) & ~np.eye(len(labels), dtype=bool)
    assert np.diag(cosines).mean() > cosines[others].mean() + .05


def test_size_and_alphabet(pocket):
    folder = Path(model_path('pocket'))
    assert sum(p.numel() for p in pocket.model.parameters()) <= 16e6 and (folder/'model.safetensors').stat().st_size <= 32e6
    assert has_short_context(pocket) and pocket.max_length == 1024
    pieces = set(pocket.tokenizer.get_vocab())
    assert {f'{mark}{c}' for mark in ('', '##') for c in 'ABCXYZ[]{}",:'} <= pieces
