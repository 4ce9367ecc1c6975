"""Compare FewGen, CFG and CorrSynth on four tasks: generate, measure, train students, collect.

    python nbs/tutorials/comparison.py --out runs/comparison                     all of it: hours on two CPU cores
    python nbs/tutorials/comparison.py --out runs/comparison --tasks humor       one task
    python nbs/tutorials/comparison.py --out runs/comparison --collect nbs/tutorials/comparison.json

Every step leaves a file in the run's folder and is passed over when the file is there, so the command may be stopped and
given again, and several processes may work on different tasks. Gold data is found through SYNTHLAB_GOLD.
"""
import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthlab.cli import main as synthlab
from synthlab.data import load_gold, written_rows
from synthlab.embeddings import Embedder
from synthlab.evaluation import Rows, distribution, diversity, fidelity, memorisation, sample_rows
from synthlab.runs import read_rows
from synthlab.students import Student
from synthlab.tasks import load_task

# Repeats make groups of eight to ten rows; the headlines' gold data has five of the ten labels.
TASKS = {
    'ag_news': dict(repeats=2, options=[]),
    'humor': dict(repeats=4, options=[]),
    'toi_headlines': dict(repeats=2, options=['--proportions', 'city=.2,business=.2,entertainment=.2,tech=.2,sports=.2']),
    'imdb': dict(repeats=4, options=['--max-new-tokens', '64']),
}
N, SEEDS = 2000, (0, 1, 2)


def guided(recipe, mode, delta, alpha=1e-3, **others):
    "Options of a guided method."
    options = dict(recipe=recipe, mode=mode, delta=delta, alpha=alpha) | others
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@dataclass
class Variant:
    "A method to compare: its options, its tasks, its rows, and what is measured of it."
    options: list
    tasks: tuple = tuple(TASKS)
    n: int = N
    students: bool = True
    repeats: bool = True


def variants():
    "Every run by name, the ones that matter most first."
    found = {'fewgen': Variant(['--recipe', 'fewgen'], repeats=False)}
    for delta in (.5, .9):
        found |= {f'corrsynth-{mode}-{delta}': Variant(guided('corrsynth', mode, delta)) for mode in ('cross', 'hybrid', 'intra')}
        found[f'cfg-cross-{delta}'] = Variant(guided('cfg', 'cross', delta) + ['--repeats', '1'], repeats=False)
    for alpha in (.01, .1): found[f'corrsynth-cross-0.5-a{alpha}'] = Variant(guided('corrsynth', 'cross', .5, alpha), ('ag_news', 'humor'))
    found['corrsynth-intra-0.0'] = Variant(guided('corrsynth', 'intra', 0.), ('toi_headlines',), 500, students=False)
    for intra, cross in [(i, c) for i in (0, .25, .5) for c in (0, .25, .5) if i + c]:
        options = guided('corrsynth', 'hybrid', 1 - intra - cross, intra_share=round(intra/(intra + cross), 4))
        found[f'grid-{intra}-{cross}'] = Variant(options, ('toi_headlines',), 500, students=False)
    return found


def generate(out, task, variant):
    "Write the dataset, unless it is there."
    if (out/'README.md').exists(): return
    repeats = ['--repeats', str(TASKS[task]['repeats'])] if variant.repeats else []
    words = ['generate', task, '--n', str(variant.n), '--shots', '1', '--dtype', 'bfloat16', '--out', str(out), *variant.options, *TASKS[task]['options'], *repeats]
    if status := synthlab(words): raise SystemExit(f'{out}: synthlab generate ended with status {status}')


def once(path, make):
    "Read the result at `path`, or make and write it."
    if not path.exists():
        part = path.with_suffix('.part')
        part.write_text(json.dumps(make(), allow_nan=False), encoding='utf-8')
        part.replace(path)
    return json.loads(path.read_text(encoding='utf-8'))


def gold_rows(task):
    "Rows of the gold test part, at most 5,000 of the train part, and the demonstrations."
    test, train = (Rows.of(load_gold(None, task, part=part)) for part in ('test', 'train'))
    return test, sample_rows(train, 5000), Rows.of(written_rows(task, 'train'))


def measure(rows, test, train, shown, embedder):
    "The intrinsic measures, all on the same number of rows."
    references, few = {'demonstrations': shown.texts, 'train': train.texts}, sample_rows(test, N)
    return {'diversity': diversity(rows, embedder), 'fidelity': fidelity(rows, train, few, embedder, most=N),
            'distribution': distribution(rows, test, embedder, most=N), 'memorisation': memorisation(rows, references, embedder)}


def train_student(rows, test, seed, record=False):
    "Accuracy on the whole gold test part, and the training dynamics when asked for."
    student = Student('minilm', recipe='quick', seed=seed, max_length=64, record=record).fit(rows.records())
    score = student.score(test.records()).to_dict()
    return score | ({'dynamics': np.round(student.dynamics_, 4).tolist()} if record else {})


def work(out, task_name, name, variant, gold, embedder):
    "All steps of one run."
    folder = out/task_name/name
    generate(folder, task_name, variant)
    rows, (test, train, shown) = Rows.of(read_rows(folder)), gold
    once(folder/'measures.json', lambda: measure(rows, test, train, shown, embedder))
    if not variant.students: return
    for seed in SEEDS: once(folder/f'student-{seed}.json', lambda: train_student(rows, test, seed, record=seed == 0 and task_name == 'toi_headlines'))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('runs/comparison'))
    parser.add_argument('--tasks', default=','.join(TASKS), help='tasks, with commas between')
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    embedder = Embedder(max_length=128, cache=args.out/'embeddings.db')
    for task_name in args.tasks.split(','):
        gold = gold_rows(load_task(task_name))
        for name, variant in variants().items():
            if task_name in variant.tasks: work(args.out, task_name, name, variant, gold, embedder)


if __name__ == '__main__': main()
