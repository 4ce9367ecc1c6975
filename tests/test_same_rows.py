"""Rows of every preset with one seed are the rows that they have always been.

`tests/same_rows.json` holds a fingerprint for each row. `python tests/test_same_rows.py` prints it anew: do so only when rows change on purpose,
and name in the changelog which do and why. Numbers are float64, so that processors which round differently draw the same tokens. Sentence embeddings are float32: `combined` shows one example
a prompt, because the fourth and the fifth that it selects are so nearly tied for one label that processors order them differently.
"""
import hashlib
import json
import sys
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent/'tools'))
from scripted_teacher import ScriptedTeacher                    # noqa: E402
from synthlab.decode.loop import Sampling                          # noqa: E402
from synthlab.run.recipe import PRESETS                            # noqa: E402
from synthlab.store.runs import read_rows                             # noqa: E402
from synthlab.teacher.causal import CausalTeacher                     # noqa: E402

STORED = Path(__file__).with_name('same_rows.json')
POCKET = {'fewgen': {}, 'masked': {}, 'cfg': {'delta': .5}, 'corrsynth': {'repeats': 2, 'mode': 'hybrid'}, 'synalign': {'per_record': 4}, 'simprompt': {}, 'attrprompt': {}, 'verbalized': {},
          'targen': {'contexts': 2}, 'combined': {'shots': 1}}
SCRIPTED = {'fewgen': 'ag_news', 'simprompt': 'sst2', 'synalign': 'ag_news', 'attrprompt': 'sst2', 'verbalized': 'ag_news', **{f'targen/{task}': task for task in
            ('ag_news', 'axb', 'axg', 'boolq', 'cb', 'copa', 'multirc', 'record', 'rte', 'wic', 'wsc')}}


@lru_cache
def pocket(): return CausalTeacher('pocket', dtype='float64')


def fingerprint(row):
    "Label, text and fate of a row in 12 hexadecimal digits."
    told = [row['label'], row['label_target'], row['text'], row.get('fields'), row['status'], row['reason']]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def fingerprints(name, task, teacher, **options):
    "All rows of a run, accepted or not, in their order."
    sampling = Sampling(16, temperature=.95, top_p=.9) if teacher is pocket() else None
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        PRESETS[name](**options).generate(task, n=8, out=f'{folder}/run', teacher=teacher, seed=7, sampling=sampling)
        return [fingerprint(row) for row in read_rows(f'{folder}/run', None)]


# One of each kind in every run of the tests, the others in the long one.
OFTEN = {'fewgen', 'corrsynth', 'targen', 'combined'}


def by_pocket(name): return fingerprints(name, 'ag_news', pocket(), **POCKET[name])


def by_script(case): return fingerprints(case.split('/')[0], SCRIPTED[case], ScriptedTeacher())


@pytest.fixture(scope='module')
def stored(): return json.loads(STORED.read_text(encoding='utf-8'))


def test_every_preset_is_there(): assert POCKET.keys() == PRESETS.keys()


@pytest.mark.parametrize('name', [name if name in OFTEN else pytest.param(name, marks=pytest.mark.long) for name in POCKET])
def test_pocket_writes_the_same_rows(name, stored): assert by_pocket(name) == stored['pocket'][name]


@pytest.mark.parametrize('case', SCRIPTED)
def test_a_text_teacher_leads_to_the_same_rows(case, stored): assert by_script(case) == stored['scripted'][case]


if __name__ == '__main__':
    print(json.dumps({'pocket': {name: by_pocket(name) for name in POCKET}, 'scripted': {case: by_script(case) for case in SCRIPTED}}, indent=0))
