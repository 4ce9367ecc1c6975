"""Which recipe is best? Every preset at the same number of tokens, on five tasks; on two of them also the combination
without one stage each.

    python nbs/studies/bakeoff.py --work runs/bakeoff                                     all of it: about an hour on
    one CPU core
    python nbs/studies/bakeoff.py --work runs/bakeoff --tasks sst2                        one task
    python nbs/studies/bakeoff.py --work runs/bakeoff --collect nbs/studies/bakeoff.json

For a task of the package that is no more than `synthlab bake-off TASK --recipes a,b,c --budget 2000 --gold SPEC --seeds
3 --out DIR`. What is finished is not done again. Gold data is found
through SYNTHLAB_GOLD; no gold text and no written text is collected, only numbers.
"""
import argparse
import json
import os
from pathlib import Path

from synthlab.bakeoff.page import bake_off
from synthlab.tasks.gold import load_gold
from synthlab.run.recipe import PRESETS, leave_one_out
from synthlab.cli.runs import kept_embedder
from synthlab.tasks.task import load_task
from synthlab.teacher.causal import CausalTeacher

from protocol import USUAL, stamp

# SST-2's own train part is made of phrases, its test part of sentences: what recipes may show is drawn from the sentences.
GOLD = {'ag_news': 'agnews', 'sst2': 'sst2', 'humor': 'humor', 'imdb': 'imdb', 'amazon_category': 'amazon14'}
TRAIN = {'sst2': 'train_sentences.parquet'}
# Tasks on which the combination is also tried without one stage each.
PARTED = ('ag_news', 'sst2')
BUDGET, SEEDS = 2000, 3
ROWS = {'amazon_category': 176}                      # CFG takes a row for each pair of labels: 13 x 13


def recipes(name):
    "Every preset, and perhaps the combination without one stage each."
    return [make() for make in PRESETS.values()] + list(leave_one_out(PRESETS['combined']()).values() if name in PARTED
                                                        else ())


def gold_task(name):
    "The task with the labels that its gold data has: Amazon's has 13 of 23."
    task = load_task(name)
    found = {row['label'] for row in load_gold(None, task, part='test')}
    return task.model_copy(update={'labels': tuple(label for label in task.labels if label.name in found)})


def compete(name, work, budget, seeds):
    "The bake-off of one task."
    folder = Path(os.environ['SYNTHLAB_GOLD'])/GOLD[name]
    return bake_off(gold_task(name), recipes(name), budget, gold=folder, gold_train=folder/TRAIN[name] if name in TRAIN
                    else None, seeds=seeds, out=work/name, embedder=kept_embedder(),
                    machine={'max_rows': ROWS.get(name, 64)})


def numbers(record):
    "Of a record what can be published: no texts."
    return {key: record[key] for key in ('task', 'labels', 'budget', 'sizes', 'asked',
                                         'recipes')} | {'cells': [slim(cell) for cell in record['cells']],
                                                        'references': [slim(cell) for cell in record['references']]}


def slim(cell):
    "The numbers of a cell, rounded."
    return {key: cell[key] for key in ('recipe', 'seed', 'error', 'cost', 'counts')
            if key in cell} | {'measures': {name: value if value is None else round(value, 5) for name,
                                            value in cell['measures'].items()}}


def collect(work, path):
    "One file of all tasks."
    found = {name: numbers(json.loads((work/name/'bakeoff.json').read_text(encoding='utf-8'))) for name in GOLD
             if (work/name/'bakeoff.json').exists()}
    mark = stamp(CausalTeacher('pocket'), USUAL, n=f'{BUDGET:,} candidate tokens', seeds=SEEDS)
    Path(path).write_text(json.dumps({'stamp': mark} | found, indent=1), encoding='utf-8')


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--work', type=Path, default=Path('runs/bakeoff')); a.add_argument('--tasks', default=','.join(GOLD))
    a.add_argument('--budget', type=int, default=BUDGET); a.add_argument('--seeds', type=int, default=SEEDS)
    a.add_argument('--collect', type=Path, help='write the numbers of all finished tasks, and do no more')
    o = a.parse_args()
    if o.collect: return collect(o.work, o.collect)
    for name in o.tasks.split(','): print(compete(name, o.work, o.budget, o.seeds), flush=True)


if __name__ == '__main__': main()
