"""Which examples are shown, and what that does to the texts: four tasks, three seeds.

    python nbs/studies/selection.py --work runs/selection                                  half an hour on one core
    python nbs/studies/selection.py --work runs/selection --collect nbs/studies/selection.json

Prompts show one example, or attributes of one. The examples are drawn at random, by k-means, or by uncertainty, whose
length scale, axes and number of rows that count as seen are varied. Every recipe has the same pools, rows and seeds.
Steps leave files in the working folder and are passed over when these are there. Gold data is found through
SYNTHLAB_GOLD; no gold text is written into the results.
"""
import argparse
import datetime
import json
from pathlib import Path

from synthlab.embeddings import Embedder
from synthlab.run.recipe import Recipe
from synthlab.select.choices import SpreadSelection, UncertaintySelection
from synthlab.teacher.causal import CausalTeacher

from protocol import USUAL, stamp
from steps import once, rounded
from synalign import POOL, SEEDS, TEXTS, TOKENS, Gold, measure, read_texts, real_rows, write_texts

TASKS = 'ag_news', 'sst2', 'humor', 'amazon_category'
# Selections of the one example that is shown; the first uncertainty has the defaults.
SELECTED = {'random': 'random', 'k-means': SpreadSelection('stratified'), 'uncertainty': UncertaintySelection(),
            'scale 0.2': UncertaintySelection(scale=.2), 'scale 1': UncertaintySelection(scale=1.),
            'all axes': UncertaintySelection(axes=0), 'cluster of 5': UncertaintySelection(cluster=5)}
NAMED = 'random', 'uncertainty'                                # those whose attributes are written from too
RECORDS = 10                                                   # examples of a label whose attributes are asked


def recipes(rows):
    "Recipes by name, for so many rows of a label."
    shown = {f'shown, {name}': Recipe.fewgen(shots=1, select=select) for name, select in SELECTED.items()}
    return shown | {f'attributes, {name}': Recipe.synalign(select=SELECTED[name], per_record=-(-rows//RECORDS))
                    for name in NAMED}


def study_task(work, name, embedder, teacher):
    "Write and measure all recipes of one task."
    gold, folder, found = Gold(name, embedder), work/name, {}
    chosen = recipes(TEXTS//len(gold.task.labels))
    for seed in SEEDS:
        calls = {}
        for recipe, stages in chosen.items():
            rows = once(folder/f'texts-{recipe}-{seed}.json', lambda: write_texts(gold, teacher, stages, seed, calls))
            found.setdefault(recipe, []).append(once(
                folder/f'measures-{recipe}-{seed}.json', lambda: measure(gold, read_texts(gold, rows, seed), seed)))
        found.setdefault('real rows', []).append(once(
            folder/f'measures-real-{seed}.json',
            lambda: measure(gold, read_texts(gold, real_rows(gold, seed), seed), seed)))
    once(folder/'measures.json', lambda: found)


def collect(work, path):
    "Everything that the notebook shows, in one file."
    mark = stamp(CausalTeacher('pocket'), USUAL, n=TEXTS, seeds=SEEDS)
    settings = {'stamp': mark, 'date': datetime.date.today().isoformat(), 'texts': TEXTS, 'pool': POOL,
                'seeds': len(SEEDS), 'records': RECORDS, 'teacher': CausalTeacher('pocket').identity['revision']}
    found = {name: json.loads((work/name/'measures.json').read_text(encoding='utf-8')) for name in TASKS}
    path.write_text(json.dumps(rounded(settings | {'tasks': found}, 5), allow_nan=False), encoding='utf-8')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=Path('runs/selection'), help='folder for texts and results')
    parser.add_argument('--tasks', default=','.join(TASKS), help='tasks, with commas between')
    parser.add_argument('--model', default='pocket', help='teacher')
    parser.add_argument('--collect', type=Path, metavar='FILE', help='only gather the results for the notebook')
    args = parser.parse_args()
    if args.collect: return collect(args.work, args.collect)
    args.work.mkdir(parents=True, exist_ok=True)
    embedder = Embedder(max_length=TOKENS, cache=args.work/'embeddings.db')
    teacher = CausalTeacher(args.model, dtype='bfloat16')
    for name in args.tasks.split(','): study_task(args.work, name, embedder, teacher)


if __name__ == '__main__': main()
