"""TarGEN on eight tasks of SuperGLUE: what becomes of rows that are asked for, and what a second look at labels does.

    python nbs/studies/targen_superglue.py --work runs/targen_superglue --part write      rows written by pocket
    python nbs/studies/targen_superglue.py --work runs/targen_superglue --part scripted   gold rows, scripted correctors
    python nbs/studies/targen_superglue.py --work runs/targen_superglue --part pocket     the same rows, pocket corrects
    python nbs/studies/targen_superglue.py --work runs/targen_superglue --collect nbs/studies/targen_superglue.json

`--tasks cb,rte` takes some of the tasks; a part takes minutes a task on one CPU core. Every step leaves a file in the
working folder and is passed over when the file is there. What is kept are counts of rows, calls and tokens. Gold data
is found through SYNTHLAB_GOLD; no text is written anywhere.
"""
import argparse
import json
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np

from synthlab.correct.self_correction import SelfCorrection
from synthlab.teacher.asking import TextTeacher, request_misfit
from synthlab.run.targen import TarGEN
from synthlab.tasks.strategies import find_strategy
from synthlab.tasks.strategy import kind_of
from synthlab.tasks.superglue import load_superglue
from synthlab.tasks.task import load_task
from synthlab.teacher.causal import CausalTeacher
from synthlab.teacher.requests import Answer, request_key
from synthlab.util import derive_seed

from evidence import plant
from protocol import USUAL, stamp
from steps import once

# The parts with labels; the official train part of BoolQ is not at hand.
PARTS = {'cb': ('train', 'validation'), 'rte': ('train', 'validation'), 'axb': ('test',), 'axg': ('test',),
         'boolq': ('validation',), 'copa': ('train', 'validation'), 'wic': ('train', 'validation'),
         'wsc': ('train', 'validation')}
# Rows asked of pocket, the most it may try, seeds of a call, seeds of the study.
WANTED, TRIES, PER_CALL, WRITE_SEEDS = 40, 80, 1, 2
# Gold rows of a draw for scripted correctors; the first of these for pocket.
ROWS, SEEDS, POCKET_ROWS, POCKET_SEEDS = 200, 8, 60, 2
NOISE, ACCURACY, SHOWN_NOISE = (0., .1, .2, .3), (.6, .7, .8, .9), .2


class Counted(CausalTeacher):
    "pocket, which counts its answers and tokens by step."
    spent = None

    def ask(self, requests):
        seen = {}
        def kept():
            for place, request in enumerate(requests):
                seen[place] = request
                yield request
        for place, answer in super().ask(kept()):
            self.spent.update(spent_on(seen.pop(place), answer))
            yield place, answer


def step_of(request):
    "The step that a request belongs to, by the shape of its answer."
    return {'Contexts': 'contexts', 'Seeds': 'seeds', 'Correction': 'corrections'}.get(request.schema.__name__, 'rows')


def spent_on(request, answer):
    "Calls and tokens of an answer, by step."
    step = step_of(request)
    return {f'{step} calls': 1, f'{step} prompt': answer.prompt_tokens or 0,
            f'{step} completion': answer.completion_tokens or 0}


def labels_of(name): return list(load_task(name).label_names)


def without_words(reason):
    "A reason without words of the row: nothing in quotes or brackets."
    return re.sub(r' ?[(][^)]*[)]', '', kind_of(reason or ''))


def steps_told(steps):
    "The steps of a run, reasons of lost answers without words of rows and those that are then the same added."
    found = {}
    for name, step in steps.items():
        lost = Counter()
        for reason, n in step['lost'].items(): lost[without_words(reason)] += n
        found[name] = {**step, 'lost': dict(lost)}
    return found


def write(teacher, name, seed):
    "What becomes of rows that pocket writes: endings with reasons, calls and tokens by step, labels before and after."
    teacher.spent = Counter()
    found = TarGEN(teacher, name, seed=seed, seeds_per_call=PER_CALL).generate(WANTED, candidates=TRIES)
    ends = Counter((row['status'], without_words(row['reason'])) for row in found.rows)
    pairs = Counter((row['label_target'], row['label_corrected']) for row in found.rows if row.get('label_corrected'))
    return {'task': name, 'seed': seed, 'wanted': WANTED, 'ends': [[*end, n] for end, n in ends.most_common()],
            'steps': steps_told(found.steps), 'spent': dict(teacher.spent), 'stopped': found.stopped,
            'shortfall': found.shortfall, 'attempts': sum(row.get('attempts') or 0 for row in found.rows),
            'matrix': [[pairs[a, b] for b in labels_of(name)] for a in labels_of(name)]}


def misfit(teacher, name):
    "Why the recipe as it comes does not fit into the teacher's context; empty if it does."
    requests = TarGEN(teacher, name).bank.ahead(WANTED)
    return next(filter(None, (request_misfit(teacher, request) for request in requests)), '')


def shown(strategy, row): return json.dumps(strategy.shown(row['fields']), ensure_ascii=False)


def draw(name, seed, n=ROWS):
    "Gold rows, no two of which look alike to a corrector."
    strategy = find_strategy(load_task(name))
    rows = {shown(strategy, row): row for part in PARTS[name] for row in load_superglue(name, part)}
    order = np.random.default_rng(derive_seed(seed, 'targen_superglue', name)).permutation(len(rows))
    return [list(rows.values())[place] for place in order[:n]]


def planted(name, rows, share, seed):
    "Places of the right labels, and of labels a share of which is wrong."
    names = labels_of(name)
    right = np.array([names.index(row['label']) for row in rows])
    rng = np.random.default_rng(derive_seed(seed, 'planted', name, round(100*share)))
    return right, plant(right, share, len(names), rng)


class Scripted(TextTeacher):
    """A corrector that knows the right labels and answers a share of the questions with another one.

    It finds the row in the prompt and pays no heed to a label that it is shown; which answers are wrong depends on the
    request and its own name alone.
    """
    is_chat = False

    def __init__(self, name, known, labels, accuracy):
        self.name, self.known, self.labels, self.accuracy = name, known, labels, accuracy

    @property
    def identity(self): return {'name': self.name, 'revision': None}

    def token_bound(self, request): return 0

    def label(self, request):
        right = next(self.known[line] for line in request.messages[0]['content'].split('\n') if line in self.known)
        rng = random.Random(request_key(request, self.identity))
        return right if rng.random() < self.accuracy else rng.choice([name for name in self.labels if name != right])

    def ask(self, requests):
        for place, request in enumerate(requests):
            if request is None: continue
            text = json.dumps({'explanation': '', 'label': self.label(request)})
            yield place, Answer(text, prompt_tokens=0, completion_tokens=0)


def correct(teacher, name, rows, given, seed, show, calls=None):
    "Places of the labels after a second look; one more than there are where it gives none."
    names = labels_of(name)
    asked = [{'fields': row['fields'], 'label': names[code]} for row, code in zip(rows, given)]
    after = SelfCorrection(teacher, name, show_label=show, policy='flag', seed=seed, calls=calls, progress=False)(asked)
    return np.array([names.index(row['label_corrected']) if row['label_corrected'] else len(names) for row in after])


def counted(right, given, after, K):
    "Rows by right label, label before and label after, shape (K, K, K + 1); the last place is no verdict."
    found = np.zeros((K, K, K + 1), int)
    np.add.at(found, (right, given, after), 1)
    return found.tolist()


def scripted(name, seed):
    "Every accuracy on every share of wrong labels."
    rows, names, strategy = draw(name, seed), labels_of(name), find_strategy(load_task(name))
    known, found = {shown(strategy, row): row['label'] for row in rows}, []
    for share in NOISE:
        right, given = planted(name, rows, share, seed)
        for accuracy in ACCURACY:
            teacher = Scripted(f'scripted-{accuracy}-{share}-{seed}', known, names, accuracy)
            after = correct(teacher, name, rows, given, seed, False)
            found.append({'noise': share, 'accuracy': accuracy, 'counts': counted(right, given, after, len(names))})
    return {'task': name, 'seed': seed, 'trials': found}


def pocket_corrects(teacher, name, seed):
    "pocket asked blind, where what is planted changes no answer, and shown the label at one share of wrong labels."
    rows, K, teacher.spent = draw(name, seed)[:POCKET_ROWS], len(labels_of(name)), Counter()
    blind = correct(teacher, name, rows, planted(name, rows, 0., seed)[1], seed, False)
    found = [{'noise': share, 'way': 'blind', 'counts': counted(*planted(name, rows, share, seed), blind, K)}
             for share in NOISE]
    right, given = planted(name, rows, SHOWN_NOISE, seed)
    after = correct(teacher, name, rows, given, seed, True)
    found.append({'noise': SHOWN_NOISE, 'way': 'shown', 'counts': counted(right, given, after, K)})
    return {'task': name, 'seed': seed, 'trials': found, 'spent': dict(teacher.spent)}


def study(work, part, tasks):
    "One part of the study."
    teacher = None if part == 'scripted' else Counted('pocket')
    for name in tasks:
        if part == 'write':
            once(work/part/f'{name}-misfit.json', lambda: misfit(teacher, name))
            for seed in range(WRITE_SEEDS): once(work/part/f'{name}-{seed}.json', lambda: write(teacher, name, seed))
        elif part == 'scripted':
            for seed in range(SEEDS): once(work/part/f'{name}-{seed}.json', lambda: scripted(name, seed))
        else:
            for seed in range(POCKET_SEEDS):
                once(work/part/f'{name}-{seed}.json', lambda: pocket_corrects(teacher, name, seed))


def collect(work, path):
    "Everything that the notebook shows, in one file."
    def read(part, name, seeds):
        files = [work/part/f'{name}-{seed}.json' for seed in range(seeds)]
        return [json.loads(file.read_text(encoding='utf-8')) for file in files if file.exists()]
    def misfit_of(name):
        file = work/'write'/f'{name}-misfit.json'
        return json.loads(file.read_text(encoding='utf-8')) if file.exists() else None
    tasks = {name: {'labels': labels_of(name), 'misfit': misfit_of(name), 'write': read('write', name, WRITE_SEEDS),
                    'scripted': read('scripted', name, SEEDS), 'pocket': read('pocket', name, POCKET_SEEDS)}
             for name in PARTS}
    n = (f'{WANTED} rows written, {WRITE_SEEDS} seeds; {ROWS} gold rows for scripted correctors, {SEEDS} seeds, and '
         f'{POCKET_ROWS} for pocket, {POCKET_SEEDS} seeds')
    mark = stamp(CausalTeacher('pocket'), USUAL, n=n, seeds=SEEDS)
    path.write_text(json.dumps({'stamp': mark, 'noise': NOISE, 'accuracy': ACCURACY, 'tasks': tasks}), encoding='utf-8')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=Path('runs/targen_superglue'), help='folder for results')
    parser.add_argument('--part', choices=('write', 'scripted', 'pocket'), default='scripted', help='what is measured')
    parser.add_argument('--tasks', default=','.join(PARTS), help='tasks, with commas between')
    parser.add_argument('--collect', type=Path, metavar='FILE', help='only gather what is there, for the notebook')
    args = parser.parse_args()
    if args.collect: return collect(args.work, args.collect)
    study(args.work, args.part, args.tasks.split(','))


if __name__ == '__main__': main()
