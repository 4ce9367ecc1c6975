"""How many bits a text tells about its label, for gold rows of four tasks, for another sample of them, and for rows
some of whose labels are wrong.

    python nbs/studies/targen.py nbs/studies/targen.json

About five minutes on one CPU core. Gold data is found through SYNTHLAB_GOLD; what is written are counts and means, no
text.
"""
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from synthlab.measure.students import Student, pvi

from protocol import stamp

# News are what MiniLM can learn from 300 rows; the three others are tasks of the paper.
TASKS = {'agnews': ('train', 'test', ('text',), 3), 'superglue_cb': ('train', 'validation', ('premise', 'hypothesis'),
    6),
         'superglue_rte': ('train', 'validation', ('premise', 'hypothesis'), 3), 'superglue_boolq': ('dev_as_train',
             'dev_as_test', ('passage', 'question'), 3)}
TRAIN, TEST, WRONG, EDGES = 300, 150, .3, np.linspace(-4, 4, 33)


def gold_rows(name, part, columns):
    "Rows of a gold part, its texts as one."
    found = pd.read_parquet(Path(os.environ['SYNTHLAB_GOLD'])/name/f'{part}.parquet')
    return [{'text': ' '.join(f'{column}: {row[column]}' for column in columns), 'label': str(row['label'])}
            for row in found.to_dict('records')]


def swapped(rows, share, rng):
    "The rows, a share of them with another label."
    names, wrong = sorted({row['label'] for row in rows}), rng.random(len(rows)) < share
    return [row | {'label': rng.choice([name for name in names if name != row['label']])} if bad else row for row,
            bad in zip(rows, wrong)]


def told(found, seconds):
    "What is kept: counts between the edges, mean, interval, means by label."
    inside = np.clip(found.bits, EDGES[0], EDGES[-1] - 1e-9)
    metric = found.metric
    return {'mean': found.mean, 'interval': metric.interval, 'n': metric.n, 'misleading': metric.details['misleading'],
            'per_label': metric.details['per_label'],
            'counts': np.histogram(inside, EDGES)[0].tolist(), 'seconds': round(seconds, 1)}


def study(name, rng):
    """PVI of the test rows by students of one half of the train rows, of the other half, and of that half with wrong
    labels, where the test rows have some too."""
    train, test, columns, epochs = TASKS[name]
    rows, scored = gold_rows(name, train, columns), gold_rows(name, test, columns)
    rows, scored = ([part[i] for i in rng.permutation(len(part))] for part in (rows, scored))
    size, scored = min(TRAIN, len(rows)//2), scored[:TEST]
    one, other = rows[:size], rows[size:2*size]
    sets = {'a sample': (scored, one), 'another sample': (scored, other),
            '30% of its labels swapped': (swapped(scored, WRONG, rng), swapped(other, WRONG, rng))}
    found = {}
    for kind, (scored, taught) in sets.items():
        start = time.perf_counter()
        bits = pvi(scored, taught, Student('minilm', recipe='quick', max_length=128,
                                           labels=sorted({row['label'] for row in rows}), epochs=epochs))
        found[kind] = told(bits, time.perf_counter() - start)
        print(name, kind, {key: found[kind][key] for key in ('mean', 'misleading', 'seconds')}, flush=True)
    return found


def main(path):
    Student.progress = False
    found = {'stamp': stamp(None, n=TRAIN), 'edges': EDGES.tolist(), 'train': TRAIN,
             'tasks': {name.removeprefix('superglue_'): study(name, np.random.default_rng(0)) for name in TASKS}}
    Path(path).write_text(json.dumps(found, indent=1), encoding='utf-8')


if __name__ == '__main__': main(*sys.argv[1:])
