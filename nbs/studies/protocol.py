"""The protocol of the studies: which rows may be looked at for what, and what a result file says of itself.

Choices are made on development rows, which come from the train part; what is reported is measured on test rows that no
choice has seen. The bake-off of November 2026 scored on `sample_rows(test, 1000)`, and much was found on those rows, so
they are left out too.
"""
import datetime
import json
import os
import subprocess
from pathlib import Path

import pandas as pd
from synthlab import __version__
from synthlab.measure.evaluate import Rows, sample_rows
from synthlab.tasks.gold import load_gold
from synthlab.tasks.task import load_task
from synthlab.util import same_text

# SST-2's own train part is made of phrases, its test part of sentences: what recipes may show is drawn from the sentences.
GOLD = {'ag_news': 'agnews', 'sst2': 'sst2', 'humor': 'humor', 'imdb': 'imdb', 'amazon_category': 'amazon14'}
TRAIN = {'sst2': 'train_sentences.parquet'}
# What lies beside the test part, where that is small.
MORE = {'sst2': 'validation.parquet'}
SEEN = 1000


def gold_folder(name):
    "Where the gold rows of a task are."
    return Path(os.environ['SYNTHLAB_GOLD'])/GOLD[name]


def gold_task(name):
    "The task with the labels that its gold data has: Amazon's has 13 of 23."
    task = load_task(name)
    found = {row['label'] for row in load_gold(None, task, part='test')}
    return task.model_copy(update={'labels': tuple(label for label in task.labels if label.name in found)})


def records(rows, task):
    "Rows of gold data as text and label."
    return [{'text': row['text'], 'label': row['label']} for row in rows if row['label'] in task.label_names]


def fresh_test(name):
    "Test rows of a task that no earlier study has scored on, and that are no train rows either."
    task, folder = gold_task(name), gold_folder(name)
    test, train = records(load_gold(None, task, part='test'), task), records(load_gold(train_file(name), task), task)
    seen = {same_text(text) for text in sample_rows(Rows.of(test), SEEN).texts}
    barred = seen | {same_text(row['text']) for row in train}
    more = records(load_gold(folder/MORE[name], task), task) if name in MORE else []
    return [row for row in test + more if same_text(row['text']) not in barred]


def train_file(name):
    "The train part: a file."
    return gold_folder(name)/TRAIN.get(name, 'train.parquet')


def write_test(name, work):
    "Write the fresh test rows of a task beside its runs, and return the file."
    path = Path(work)/f'{name}.test.parquet'
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(fresh_test(name)).to_parquet(path)
    return path


def code_version():
    "The commit of the code, or the version of the package outside a checkout."
    found = subprocess.run(['git', 'rev-parse', '--short=12', 'HEAD'], capture_output=True, text=True,
                           cwd=Path(__file__).parent)
    return found.stdout.strip() or __version__


def stamp(teacher, **told):
    "What a result file says of itself: by which teacher, with which code, when, and whatever else is told."
    who = teacher.identity
    return {'teacher': who['name'], 'revision': who['revision'], 'code': code_version(),
            'date': datetime.date.today().isoformat(), **told}


def write_results(path, stamp, results):
    "Write a result file with its stamp."
    Path(path).write_text(json.dumps({'stamp': stamp, 'results': results}, indent=1), encoding='utf-8')
