"""Compare FewGen, CFG and CorrSynth on four tasks: generate, measure, train students, collect.

    python nbs/studies/comparison.py --out runs/comparison                     all of it: hours on two CPU cores
    python nbs/studies/comparison.py --out runs/comparison --tasks humor       one task
    python nbs/studies/comparison.py --out runs/comparison --collect nbs/studies/comparison.json

Every step leaves a file in the run's folder and is passed over when the file is there, so the command may be stopped
and
given again, and several processes may work on different tasks. Gold data is found through SYNTHLAB_GOLD.
"""
import argparse
import json
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from synthlab.cli.main import main as synthlab
from synthlab.decode.choices import CFG, CorrSynth, FewGen
from synthlab.run.generate import generate as make
from synthlab.tasks.gold import load_gold, written_rows
from synthlab.embeddings import Embedder
from synthlab.measure.evaluate import Material, Rows, projection, sample_rows, take
from synthlab.measure.lexical import words
from synthlab.measure.labels import label_cosine
from synthlab.store.runs import read_rows
from synthlab.measure.students import Student, cartography
from synthlab.tasks.task import load_task
from synthlab.teacher.causal import CausalTeacher

from protocol import USUAL, stamp
from steps import once

# Repeats make groups of eight to ten rows; the headlines' gold data has five of the ten labels; students of reviews are scored
# on 5,000 of the 25,000 test rows, because scoring takes longer than training.
TASKS = {
    'ag_news': dict(repeats=2, options=[]),
    'humor': dict(repeats=4, options=[]),
    'toi_headlines': dict(repeats=2, options=['--proportions',
                                              'city=.2,business=.2,entertainment=.2,tech=.2,sports=.2']),
    'imdb': dict(repeats=4, options=['--max-new-tokens', '64'], test_rows=5000),
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
        found |= {f'corrsynth-{mode}-{delta}': Variant(guided('corrsynth', mode, delta)) for mode in ('cross', 'hybrid',
            'intra')}
    found['cfg-cross-0.5'] = Variant(guided('cfg', 'cross', .5) + ['--repeats', '1'], repeats=False)
    for alpha in (.01, .1):
        found[f'corrsynth-cross-0.5-a{str(alpha)[1:]}'] = Variant(guided('corrsynth', 'cross', .5, alpha),
            ('ag_news', 'humor'))
    found['corrsynth-intra-0.0'] = Variant(guided('corrsynth', 'intra', 0.), ('toi_headlines',), 500, students=False)
    for intra, cross in [(i, c) for i in (0, .25, .5) for c in (0, .25, .5) if i + c]:
        options = guided('corrsynth', 'hybrid', 1 - intra - cross, intra_share=round(intra/(intra + cross), 4))
        found[f'grid-{intra}-{cross}'] = Variant(options, ('toi_headlines',), 500, students=False)
    return found


def generate(out, task, variant):
    "Write the dataset, unless it is there."
    if (out/'README.md').exists(): return
    repeats = ['--repeats', str(TASKS[task]['repeats'])] if variant.repeats else []
    request = ['generate', task, '--n', str(variant.n), '--shots', '1', '--dtype', 'bfloat16', '--out', str(out),
               *variant.options, *TASKS[task]['options'], *repeats]
    if status := synthlab(request): raise SystemExit(f'{out}: synthlab generate ended with status {status}')


def gold_rows(task):
    "Rows of the gold test part, at most 5,000 of the train part, and the demonstrations."
    test, train = (Rows.of(load_gold(None, task, part=part)) for part in ('test', 'train'))
    return test, sample_rows(train, 5000), Rows.of(written_rows(task, 'train'))


def measure(rows, test, train, shown, embedder):
    "The intrinsic measures, all on the same number of rows."
    compared = Material(embedder=embedder, rows=rows, test=test, train=train, shown=shown.texts, most=N)
    # the judge is judged on fewer rows
    judged = replace(compared, test=sample_rows(test, N))
    return {'diversity': take(compared, ['diversity']), 'fidelity': take(judged, ['fidelity']),
            'distribution': take(compared, ['distribution']),
            'memorisation': take(compared, ['novelty_demonstrations', 'novelty_train'])}


def train_student(rows, test, seed, record=False):
    "Accuracy on gold rows, and the training dynamics when asked for."
    student = Student('minilm', recipe='quick', seed=seed, max_length=64, record=record).fit(rows.records())
    score = student.score(test.records()).to_dict()
    return score | ({'dynamics': np.round(student.dynamics_, 4).tolist()} if record else {})


def work(out, task_name, name, variant, gold, embedder):
    "All steps of one run."
    folder, (test, train, shown) = out/task_name/name, gold
    if variant: generate(folder, task_name, variant)
    rows = Rows.of(read_rows(folder)) if variant else sample_rows(train, N)
    if variant: once(folder/'measures.json', lambda: measure(rows, test, train, shown, embedder))
    few = sample_rows(test, TASKS[task_name].get('test_rows', len(test)))
    for seed in SEEDS if variant is None or variant.students else ():
        once(folder/f'student-{seed}.json', lambda: train_student(rows, few, seed, record=seed == 0
            and task_name == 'toi_headlines'))


def times(n=192):
    "Wall time, forward passes and tokens of each method on news, on a machine that does nothing else."
    task, teacher, found = load_task('ag_news'), CausalTeacher('pocket', dtype='bfloat16'), {}
    methods = {'fewgen': FewGen(), 'cfg-cross-0.5': CFG(delta=.5)}
    methods |= {f'corrsynth-{mode}-{delta}': CorrSynth(delta=delta, mode=mode, repeats=2) for mode in ('cross',
        'hybrid', 'intra') for delta in (.5, .9)}
    for name, method in ({'warm-up': FewGen()} | methods).items():
        start, run = time.perf_counter(), make(method, task, teacher, n, shots=1)
        for _ in run: pass
        found[name] = {'seconds': time.perf_counter() - start} | {key: getattr(run.stats, key) for key in ('rows',
            'tokens', 'steps', 'forward_rows', 'prefill_rows')}
    return found


KEPT = ('matrix', 'precision', 'recall', 'density', 'judge', 'noise_floor', 'by_type', 'per_label')


def short_entry(entry):
    "A measure without its long details."
    if 'value' not in entry: return entry
    return {'value': round(entry['value'], 5), 'interval': entry['interval']
            and [round(x, 5) for x in entry['interval']], 'n': entry['n'],
            'better': entry['better'], 'details': {key: value for key, value in entry['details'].items()
                                                   if key in KEPT}}


def run_summary(folder):
    "Measures, students, rows and tokens of a run."
    measures = json.loads((folder/'measures.json').read_text()) if (folder/'measures.json').exists() else {}
    students = [json.loads(path.read_text()) for path in sorted(folder.glob('student-*.json'))]
    rows = list(read_rows(folder, None)) if (folder/'run.db').exists() else []
    return {'measures': {entry['name']: short_entry(entry) for section in measures.values() for entry in section},
            'students': [{'accuracy': s['value'], 'macro_f1': s['details']['macro_f1'], 'test_rows': s['n'],
                          'recall': {label: row['recall'] for label, row in s['details']['per_class'].items()}}
                          for s in students],
            'candidates': len(rows), 'accepted': sum(row['status'] == 'accepted' for row in rows),
            'tokens': sum(row['tokens'] for row in rows),
            'mask_share': float(np.mean([row['mask_share'] for row in rows])) if rows else None,
            'kl': float(np.mean([row['kl'] for row in rows])) if rows else None}


def promoted(ours, theirs, most=15, prior=.1):
    """Words that one dataset uses more, and less, than another: weighted log-odds with a prior (Monroe and others,
    2008), as z scores."""
    counts = [Counter(word for text in texts for word in words(text.lower())) for texts in (ours, theirs)]
    vocabulary = [word for word in set(counts[0]) | set(counts[1]) if word.isalpha()]
    y, z = (np.array([c[word] for word in vocabulary]) + prior for c in counts)
    delta = np.log(y/(y.sum() - y)) - np.log(z/(z.sum() - z))
    order = np.argsort(delta/np.sqrt(1/y + 1/z))
    def told(places): return [(vocabulary[i], int(y[i]), int(z[i])) for i in places]
    return {'more': told(order[::-1][:most]), 'less': told(order[:most])}


def texts_of(folder): return [row['text'] for row in read_rows(folder)]


def collect(out, path, embedder):
    "Everything that the notebook shows, in one file."
    runs = {task: {folder.name: run_summary(folder) for folder in sorted((out/task).iterdir())
                   if not folder.name.startswith('grid') and (folder.name == 'gold' or (folder/'README.md').exists())}
                   for task in TASKS if (out/task).exists()}
    toi = out/'toi_headlines'
    planes = {'1.0': 'fewgen', '0.9': 'corrsynth-intra-0.9', '0.5': 'corrsynth-intra-0.5', '0.0': 'corrsynth-intra-0.0'}
    grid = {folder.name.removeprefix('grid-'): label_cosine([r['text'] for r in rows], [r['label'] for r in rows],
                                                            embedder=embedder).details['matrix']
            for folder in sorted([*toi.glob('grid-*'), toi/'fewgen']) if (rows := list(read_rows(folder))[:500])}
    plane = projection({delta: sample_rows(Rows.of(read_rows(toi/name)), 300) for delta, name in planes.items()},
                       embedder, most=300)
    maps = {name: json.loads((toi/name/'student-0.json').read_text())['dynamics'] for name in ('fewgen',
        'corrsynth-intra-0.5')}
    maps = {name: {key: np.round(value, 3).tolist() for key, value in vars(cartography(np.array(values))).items()}
            for name, values in maps.items()}
    changed = {task: promoted(texts_of(out/task/'corrsynth-cross-0.5'), texts_of(out/task/'fewgen')) for task in runs}
    real = {task: sample_rows(gold_rows(load_task(task))[0], N) for task in runs}
    yardsticks = {task: {entry['name']: short_entry(entry)
                         for entry in take(Material(embedder=embedder, rows=rows), ['diversity'])}
                  for task, rows in real.items()}
    mark = stamp(CausalTeacher('pocket', dtype='bfloat16'), USUAL, n=N, seeds=1)
    found = {'stamp': mark, 'times': once(out/'times.json', times), 'runs': runs, 'gold': yardsticks, 'grid': grid,
             'plane': plane, 'maps': maps, 'promoted': changed}
    path.write_text(json.dumps(found, allow_nan=False), encoding='utf-8')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('runs/comparison'), help='folder for the runs')
    parser.add_argument('--tasks', default=','.join(TASKS), help='tasks, with commas between')
    parser.add_argument('--collect', type=Path, metavar='FILE', help='only gather what is there in a file for '
                        'the notebook')
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    embedder = Embedder(max_length=128, cache=args.out/'embeddings.db')
    if args.collect: return collect(args.out, args.collect, embedder)
    for task_name in args.tasks.split(','):
        gold = gold_rows(load_task(task_name))
        for name, variant in ({'gold': None} | variants()).items():
            if variant is None or task_name in variant.tasks: work(args.out, task_name, name, variant, gold, embedder)


if __name__ == '__main__': main()
