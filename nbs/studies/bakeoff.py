"""Which recipe is best? Every recipe at the same number of tokens, on five tasks with eight seeds; the combination also
without one stage each; and what contrast is worth where labels have evidence, and beside texts without contrast that
are as uncertain; and what recipes of other papers reach.

    python nbs/studies/bakeoff.py --work runs/bakeoff                                     all of it: a night on two CPU
    cores
    python nbs/studies/bakeoff.py --work runs/bakeoff --tasks sst2 --arms main            one task, the main recipes
    python nbs/studies/bakeoff.py --work runs/bakeoff --collect nbs/studies/bakeoff.json

For a task of the package that is no more than `synthlab bake-off TASK --recipes a,b,c --budget 2000 --gold SPEC --seeds
8 --out DIR`. What is finished is not done again. Gold data is found through SYNTHLAB_GOLD; the rows that are scored on
are those of `protocol.fresh_test`, which no bake-off has seen. No gold text and no written text is collected, only
numbers.
"""
import argparse
import json
from pathlib import Path

from synthlab.bakeoff.page import bake_off
from synthlab.bakeoff.scores import _ON_EQUALLY_MANY as EQUALLY_MANY
from synthlab.cli.runs import kept_embedder
from synthlab.run.recipe import Recipe, leave_one_out
from synthlab.teacher.causal import CausalTeacher

from protocol import GOLD, SEEDS, USUAL, gold_task, read_study, stamp, train_file, write_test

BUDGET = 2000
# CFG takes a row for each pair of labels: 13 x 13
ROWS = {'amazon_category': 176}


def with_evidence(name, **options):
    "A recipe whose students learn from label evidence."
    return Recipe.corrsynth(**options, correct='evidence', name=name)


def matched(task):
    "Texts of a task without contrast, as uncertain as those of CorrSynth: the exponents that entropy.py has measured."
    found = read_study(Path(__file__).with_name('entropy.json'))[1]
    if task not in found: raise ValueError(f'entropy.json has no exponents for {task}: measure them, entropy.py --tasks {task}')
    return [Recipe.corrsynth(gamma=one['gamma'], delta=one['gamma'], name=f'matched {delta.lstrip("0")}') for delta, one in found[task]['deltas'].items()]


def arms(task):
    """Recipes for a task, by the question that they answer.

    The parts have the whole combination beside them, so that both are of one state of the code.
    """
    main = ('fewgen', 'masked', 'cfg', 'corrsynth', 'synalign', 'targen', 'combined')
    return {'main': [getattr(Recipe, name)() for name in main],
            'parts': [Recipe.combined(name='combined-whole'), *leave_one_out(Recipe.combined()).values()],
            'contrast': [with_evidence('evidence masked', delta=1.), *(with_evidence(f'evidence delta {delta}',
                delta=delta) for delta in (.9, .5, .2))],
            'prompts': [Recipe.simprompt(), Recipe.attrprompt()],
            'rivals': [*(Recipe.corrsynth(align='importance', kind=kind, name=kind) for kind in ('imp', 'dimp')),
                       Recipe.verbalized(), Recipe.targen(contexts_by='tree', correct='none', name='treesynth')],
            'entropy': [*matched(task), *(Recipe.corrsynth(delta=delta, name=f'delta {delta}') for delta in (.5, .2))]}


def compete(name, work, budget, seeds, recipes):
    "The bake-off of one task."
    return bake_off(gold_task(name), recipes, budget, gold=write_test(name, work), gold_train=train_file(name),
                    seeds=seeds, out=work/name, embedder=kept_embedder(), machine={'max_rows': ROWS.get(name, 64)})


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


def collect(works, path):
    """One file of all tasks: what is stored stays unless it was measured again, and arms of other folders are merged.

    Measures that were taken on another number of rows than those of the first folder are left out.
    """
    stored = json.loads(path.read_text(encoding='utf-8')) if path.exists() else {}
    earlier, found = stored.pop('stamp', None), stored
    for place in (work/name/'bakeoff.json' for name in GOLD for work in works):
        if not place.exists(): continue
        record, name = numbers(json.loads(place.read_text(encoding='utf-8'))), place.parent.name
        there = found.setdefault(name, record | {'recipes': {}, 'cells': []})
        there['recipes'] |= record['recipes']
        there['cells'] = [cell for cell in there['cells'] if cell['recipe'] not in record['recipes']] + [
            cell if record['sizes'] == there['sizes'] else without(cell, EQUALLY_MANY) for cell in record['cells']]
    seeds = sorted({cell['seed'] for one in found.values() for cell in one['cells']})
    mark = stamp(CausalTeacher('pocket'), USUAL, n=f'{BUDGET:,} candidate tokens', seeds=seeds)
    path.write_text(json.dumps({'stamp': mark | ({'earlier': earlier} if earlier else {})} | found, indent=1), encoding='utf-8')


def without(cell, names):
    "A cell without some of its measures."
    return cell | {'measures': {name: value for name, value in cell['measures'].items() if name not in names}}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--work', type=Path, default=Path('runs/bakeoff')); a.add_argument('--tasks', default=','.join(GOLD))
    a.add_argument('--arms', default=','.join(arms(next(iter(GOLD)))))
    a.add_argument('--only', default='', help='of these recipes only those that are named')
    a.add_argument('--budget', type=int, default=BUDGET); a.add_argument('--seeds', type=int, default=SEEDS)
    a.add_argument('--beside', type=Path, nargs='*', default=[], help='folders of other arms to collect too')
    a.add_argument('--collect', type=Path, help='write the numbers of all finished tasks, and do no more')
    o = a.parse_args()
    if o.collect: return collect([o.work, *o.beside], o.collect)
    only = o.only.split(',') if o.only else ()
    for name in o.tasks.split(','):
        recipes = [recipe for arm in o.arms.split(',') for recipe in arms(name)[arm] if not only or recipe.name in only]
        print(compete(name, o.work, o.budget, o.seeds, recipes), flush=True)


if __name__ == '__main__': main()
