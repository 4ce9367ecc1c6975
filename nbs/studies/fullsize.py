"""As many written rows as real ones: what a student learns from 2,000 rows of the best recipe, and from 2,000 gold rows.

    python nbs/studies/fullsize.py --work runs/fullsize                                  an hour on one quiet core
    python nbs/studies/fullsize.py --work runs/fullsize --tasks sst2 --seeds 1           one task, one dataset
    python nbs/studies/fullsize.py --work runs/fullsize --collect nbs/studies/fullsize.json

The recipe is shown 500 gold rows, as in the bake-off. The student is the bake-off's, a logistic regression on embeddings;
it learns from the first 100, 300, 1,000 and 2,000 rows of a dataset, from as many gold rows, and from the written ones
together with those 500. Written rows count with their soft labels and weights, with soft labels alone, or as they are
labelled. All are scored on test rows that no bake-off has scored on. Steps leave files in the working folder and are
passed over when these are there. Gold data is found through SYNTHLAB_GOLD; no text is collected.
"""
import argparse
import json
from pathlib import Path

import pandas as pd

from synthlab.cli.runs import kept_embedder
from synthlab.measure.evaluate import Rows, sample_rows
from synthlab.measure.students import Probe
from synthlab.run.recipe import Recipe
from synthlab.tasks.gold import load_gold
from synthlab.teacher.causal import CausalTeacher

from protocol import GOLD, USUAL, fresh_test, gold_task, stamp, train_file
from steps import once

N, SHOWN, TEST, SEEDS, SIZES = 2000, 500, 2000, 3, (100, 300, 1000, 2000)
RECIPES = {'combined': Recipe.combined(), 'fewgen': Recipe.fewgen()}
DTYPE = 'bfloat16'


def gold_rows(name):
    "Test rows, rows that recipes are shown, and the rest of the train part; the last two have no row in common."
    train = Rows.of(load_gold(train_file(name), gold_task(name)))
    first = {text: n for n, text in reversed(list(enumerate(train.texts)))}
    train = sample_rows(train.take(sorted(first.values())), 3*N + SHOWN)
    shown = sample_rows(train, SHOWN)
    there = set(shown.texts)
    rest = train.take([i for i, text in enumerate(train.texts) if text not in there])
    return sample_rows(Rows.of(fresh_test(name)), TEST), shown, rest


def write(work, name, recipe, seed, shown, teacher):
    "The rows of a dataset: a run that goes on where it was stopped."
    path = work/name/'shown.parquet'
    if not path.exists(): pd.DataFrame(shown.records()).to_parquet(path)
    return Rows.of(RECIPES[recipe].generate(gold_task(name), path, N,
                                            work/name/f'{recipe}-{seed}', teacher, seed=seed, embedder=kept_embedder()))


def curve(rows, test, embedder):
    "Accuracy of a student by the number of rows that it learns from, drawn so that the labels keep their shares."
    return {n: float(Probe(embedder).fit(sample_rows(rows, n).records()).score(test.records())) for n in SIZES
            if n <= len(rows) or n == max(SIZES)}


def dataset(work, name, recipe, seed, gold, teacher):
    "What a student learns from one dataset."
    (test, shown, _), embedder = gold, kept_embedder()
    rows = write(work, name, recipe, seed, shown, teacher)
    found = {'rows': len(rows), recipe: curve(rows, test, embedder)}
    if rows.soft:
        found['as labelled'] = curve(Rows(rows.texts, rows.labels), test, embedder)
        found['soft labels alone'] = curve(Rows(rows.texts, rows.labels, None, rows.soft), test, embedder)
    found['with the rows shown'] = float(Probe(embedder).fit((rows + shown).records()).score(test.records()))
    return found


def reference(gold, seed):
    "What the same student learns from gold rows."
    (test, shown, rest), embedder = gold, kept_embedder()
    drawn = sample_rows(rest, N, seed)
    return {'rows': len(drawn), 'gold': curve(drawn, test, embedder), 'rows shown': float(
        Probe(embedder).fit(shown.records()).score(test.records()))}


def collect(work, path):
    "One file of all that is finished."
    found = {name: {kind: [json.loads(file.read_text(encoding='utf-8')) for file in sorted((work/name).glob(f'{kind}-*.json'))]
                    for kind in (*RECIPES, 'gold')} for name in GOLD}
    seeds = max(len(one['combined']) for one in found.values())
    mark = stamp(CausalTeacher('pocket'), USUAL, n=f'{N:,} rows, {TEST:,} test rows', seeds=seeds)
    path.write_text(json.dumps({'stamp': mark | {'dtype': DTYPE}} | found, indent=1), encoding='utf-8')


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--work', type=Path, default=Path('runs/fullsize')); a.add_argument('--tasks', default=','.join(GOLD))
    a.add_argument('--recipes', default=','.join(RECIPES)); a.add_argument('--seeds', type=int, default=SEEDS)
    a.add_argument('--collect', type=Path)
    o = a.parse_args()
    if o.collect: return collect(o.work, o.collect)
    teacher = CausalTeacher('pocket', dtype=DTYPE)
    for seed in range(o.seeds):
        for name in o.tasks.split(','):
            (o.work/name).mkdir(parents=True, exist_ok=True)
            gold = gold_rows(name)
            once(o.work/name/f'gold-{seed}.json', lambda: reference(gold, seed))
            for recipe in o.recipes.split(','):
                once(o.work/name/f'{recipe}-{seed}.json', lambda: dataset(o.work, name, recipe, seed, gold, teacher))


if __name__ == '__main__': main()
