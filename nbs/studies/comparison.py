"""Does repelling help? Plain sampling, CorrSynth's mask alone, CorrSynth and CFG on four tasks, eight datasets each.

    python nbs/studies/comparison.py --work runs/comparison                  all of it: about an hour on a free CPU core
    python nbs/studies/comparison.py --work runs/comparison --parts main     the five arms that decide
    python nbs/studies/comparison.py --work runs/comparison --collect nbs/studies/comparison.json

Datasets are the unit: a generation seed draws examples, prompts and texts. Cells come seed by seed, so that a study
which was stopped can be collected; every step leaves a file and is passed over when the file is there. Students are
scored on rows that no bake-off has scored on. Gold data is found through SYNTHLAB_GOLD; only numbers and single words
are collected.
"""
import argparse
import json
import time
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from synthlab.decode.choices import CFG, CorrSynth, FewGen
from synthlab.embeddings import Embedder
from synthlab.measure.evaluate import Material, Rows, projection, sample_rows, take
from synthlab.measure.labels import gold_classifier
from synthlab.measure.lexical import words
from synthlab.measure.students import Probe, Student, cartography
from synthlab.run.generate import choose_sampling, generate
from synthlab.tasks.gold import load_gold, written_rows
from synthlab.teacher.causal import CausalTeacher

from protocol import (GOLD, SEEDS, USUAL, components, dataset_means, differences, divide, fresh_test, gold_task,
                      read_study, stamp)
from steps import balanced, once, rounded

# Texts of a label in a group: eight to ten texts contrast. Reviews are cut at 64 tokens, which is what embeddings see.
TASKS = {'ag_news': 2, 'humor': 4, 'toi_headlines': 2, 'imdb': 4}
N, TEST, LESSONS, TOKENS = 80, 1500, 1000, 64
GRID = ('0', '0.25', '0.5')
# The earlier comparison scored on so many rows of the test part; where it has more, the others are taken.
EARLIER = 5000


def grid():
    "What is subtracted within a label and across, on headlines: those cells that no other arm has."
    shares = [(float(intra), float(cross)) for intra in GRID for cross in GRID]
    return {f'grid {i:g} {c:g}': dict(mode='hybrid', delta=1 - i - c, intra_share=i/(i + c))
            for i, c in shares if i + c and (i, c) not in ((0, .5), (.5, 0), (.25, .25))}


# By part: arms with their options, what makes them, tasks, and seeds.
CORRELATED = {f'{mode} {delta}': dict(mode=mode, delta=delta) for delta in (.5, .9)
              for mode in ('cross', 'hybrid', 'intra')}
MAIN = {'fewgen': {}, 'masked': dict(delta=1.)}
MAIN |= {name: CORRELATED[name] for name in ('cross 0.5', 'cross 0.9', 'intra 0.5')}


class Arm(NamedTuple):
    "A way to draw texts: its options, its tasks, and its number of seeds."
    options: dict
    tasks: tuple = tuple(TASKS)
    seeds: int = SEEDS


def parts():
    "All arms by part, the most telling part first."
    main = {name: Arm(options) for name, options in MAIN.items()}
    headlines = {'intra 0.0': dict(mode='intra', delta=0.), 'hybrid 0.5': CORRELATED['hybrid 0.5']} | grid()
    return {'main': main,
            'alpha': {f'alpha {alpha}': Arm(dict(delta=.5, alpha=alpha), ('ag_news', 'humor'), 4) for alpha in (.01, .1)},
            'grid': {name: Arm(options, ('toi_headlines',), 4) for name, options in headlines.items()},
            'hybrid': {'hybrid 0.5': Arm(CORRELATED['hybrid 0.5'])},
            'cfg': {'cfg 0.5': Arm(dict(delta=.5))},
            'mild': {name: Arm(CORRELATED[name]) for name in ('hybrid 0.9', 'intra 0.9')}}


def decoder(task_name, arm, options):
    "How the texts of an arm are drawn."
    if arm == 'fewgen': return FewGen()
    if arm.startswith('cfg'): return CFG(**options)
    return CorrSynth(repeats=TASKS[task_name], **options)


def untouched(name):
    "At most `TEST` rows of the test part that no bake-off has scored on, and the train part, which has none of them."
    test, train = (Rows.of(load_gold(None, gold_task(name), part=part)) for part in ('test', 'train'))
    rows = Rows.of(fresh_test(name)) if name in GOLD else divide(test, (), train.texts, 0.).test
    used = sample_rows(rows, 1000).texts if name in GOLD else []
    if len(test) > 2*EARLIER: used = used + sample_rows(test, EARLIER).texts
    return sample_rows(divide(rows, used, (), 0.).test, TEST), train


class Task:
    "A task with the real rows that its datasets are measured with."
    def __init__(self, name, teacher, embedder):
        self.name, self.task, self.teacher, self.embedder = name, gold_task(name), teacher, embedder
        self.test, self.train = untouched(name)
        # four of five headlines are of one label: a judge that learnt from such rows would hardly find the others
        self.lessons = (balanced if name == 'toi_headlines' else sample_rows)(self.train, LESSONS)
        self.shown = Rows.of(written_rows(self.task, 'train')).texts

    @cached_property
    def judge(self): return gold_classifier(self.lessons.texts, self.lessons.labels, self.embedder)

    def write(self, arm, options, seed):
        "A dataset, and what it cost."
        start, sampling = time.process_time(), choose_sampling(self.task, self.teacher)
        limit = min(TOKENS, sampling.max_new_tokens)
        run = generate(decoder(self.name, arm, options), self.task, self.teacher, N, shots=1, seed=seed,
                       sampling=choose_sampling(self.task, self.teacher, max_new_tokens=limit))
        rows = [row for group in run for row in group.rows]
        kept = [row for row in rows if row['status'] == 'accepted']
        told = {name: float(np.mean([row[name] for row in rows])) for name in ('mask_share', 'kl')}
        costs = {name: getattr(run.stats, name) for name in ('tokens', 'steps', 'forward_rows', 'prefill_rows')}
        texts, labels = ([row[name] for row in kept] for name in ('text', 'label'))
        costs |= {'candidates': len(rows), 'seconds': time.process_time() - start}
        return {'texts': texts, 'labels': labels} | told | costs

    def real(self, seed):
        "As many real rows of the train part."
        rows = balanced(self.train, N, seed)
        return {'texts': rows.texts, 'labels': rows.labels}


MEASURES = ('self_bleu', 'vocabulary', 'entity_entropy', 'vendi_score', 'label_preservation', 'label_cosine', 'mauve',
            'mmd', 'coverage', 'novelty_demonstrations', 'length')


def correct(task, rows):
    "Which test rows a student of these rows gets right, and the share of each label."
    found, labels = Probe(task.embedder).fit(rows.records()).predict(task.test.texts), np.array(task.test.labels)
    right = np.array(found) == labels
    return right, {label: float(right[labels == label].mean()) for label in task.task.label_names}


def measure(task, written, seed):
    "All numbers of a dataset; which test rows its student gets right, as hexadecimal digits."
    rows = Rows(written['texts'], written['labels'])
    m = Material(embedder=task.embedder, rows=rows, test=task.test, train=task.lessons, shown=task.shown,
                 judge=task.judge, seed=seed, intervals=False)
    found = {entry['name']: entry for entry in take(m, MEASURES)}
    right, recalls = correct(task, rows)
    return {'values': {name: entry.get('value') for name, entry in found.items()}, 'rows': len(rows),
            'accuracy': float(right.mean()), 'recalls': recalls, 'right': np.packbits(right).tobytes().hex(),
            'cosines': found['label_cosine'].get('details', {}).get('matrix'),
            'judge': found['label_preservation'].get('details', {}).get('judge')} | {
                key: value for key, value in written.items() if key not in ('texts', 'labels')}


def cell(work, task, arm, options, seed):
    "Write and measure a dataset, or read what is there."
    folder = work/task.name/arm
    def make(): return task.real(seed) if arm == 'gold' else task.write(arm, options, seed)
    written = once(folder/f'{seed}.rows.json', make)
    return once(folder/f'{seed}.json', lambda: measure(task, written, seed))


def texts_of(work, name, arm, seeds=range(SEEDS)):
    "All rows of an arm, of those seeds that are there."
    paths = [path for seed in seeds if (path := work/name/arm/f'{seed}.rows.json').exists()]
    found = [json.loads(path.read_text(encoding='utf-8')) for path in paths]
    return Rows([text for one in found for text in one['texts']], [label for one in found for label in one['labels']])


def together(work, task, arm):
    "Mean recall of a student of all datasets of an arm as one, and without each in turn (the jackknife)."
    def score(seeds): return float(np.mean(list(correct(task, texts_of(work, task.name, arm, seeds))[1].values())))
    seeds = set(range(SEEDS))
    return {'whole': score(seeds), 'without': [score(seeds - {left}) for left in range(SEEDS)]}


MAPS, MAPPED = ('masked', 'cross 0.5', 'intra 0.5'), range(4)


def datamap(work, arm):
    "How a fine-tuned student learns the headlines of four seeds together."
    student = Student('minilm', recipe='quick', seed=0, max_length=TOKENS, record=True)
    rows = texts_of(work, 'toi_headlines', arm, MAPPED)
    found = cartography(np.array(student.fit(rows.records()).dynamics_))
    return {key: np.round(value, 3).tolist() for key, value in vars(found).items() if isinstance(value, np.ndarray)}


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


def run(work, names, chosen):
    "All cells of some parts, seed by seed; after a part what needs all datasets of an arm."
    teacher = CausalTeacher('pocket', dtype='bfloat16')
    tasks = [Task(name, teacher, Embedder(max_length=TOKENS, cache=work/'embeddings.db')) for name in names]
    for task in tasks: once(work/task.name/'labels.json', lambda: task.test.labels)
    for part in chosen:
        arms = parts()[part] | ({'gold': Arm({})} if part == 'main' else {})
        for seed, task, arm in ((seed, task, arm) for seed in range(SEEDS) for task in tasks for arm in arms):
            if task.name in arms[arm].tasks and seed < arms[arm].seeds: cell(work, task, arm, arms[arm].options, seed)
        for task, arm in ((task, arm) for task in tasks for arm in arms if arms[arm].tasks == tuple(TASKS)):
            once(work/task.name/arm/'together.json', lambda: together(work, task, arm))
        if part == 'grid' and 'toi_headlines' in names:
            for arm in MAPS: once(work/'toi_headlines'/arm/'map.json', lambda: datamap(work, arm))


def read(place): return json.loads(place.read_text(encoding='utf-8'))


def cells_of(work, name, arm):
    "The cells of an arm that are there, by seed."
    paths = {seed: work/name/arm/f'{seed}.json' for seed in range(SEEDS)}
    return {seed: read(path) for seed, path in paths.items() if path.exists()}


def slim(arm, cells):
    "Cells without what is kept once for all; which rows are right only where arms are compared by it."
    compared = arm in MAIN or arm in CORRELATED or arm.startswith('cfg')
    left_out = {'cosines', 'judge'} | (set() if compared else {'right'})
    return {seed: {key: value for key, value in cell.items() if key not in left_out} for seed, cell in cells.items()}


def mean_cosines(cells):
    "Cosines between and within labels, the mean over datasets."
    found = [pd.DataFrame(cell['cosines']) for cell in cells.values()]
    return (sum(found)/len(found)).to_dict()


def planned():
    "What the bake-off says of the spread between datasets, CorrSynth against the mask alone, in points."
    record = read_study(Path(__file__).with_name('bakeoff.json'))[1]
    values = dataset_means((cell['recipe'], task, cell['seed'], 0, 100*cell['measures']['student_synthetic'])
                           for task, one in record.items() for cell in one['cells']
                           if 'student_synthetic' in cell['measures'])
    spread = components(differences(values, 'corrsynth', 'masked'))
    return {name: [float(x) for x in part] for name, part in spread.items()}


def pictures(work):
    "What only pictures and tables of words need: texts of headlines in a plane, datamaps, words."
    toi, pairs = 'toi_headlines', {'mask': ('masked', 'fewgen'), 'contrast': ('cross 0.5', 'masked')}
    planes = {'1.0': 'masked', '0.9': 'intra 0.9', '0.5': 'intra 0.5', '0.0': 'intra 0.0'}
    sets = {delta: texts_of(work, toi, arm, MAPPED) for delta, arm in planes.items()}
    plane = projection(sets, Embedder(max_length=TOKENS, cache=work/'embeddings.db'), most=300)
    def told(name, pair): return promoted(*(texts_of(work, name, arm).texts for arm in pair))
    changed = {name: {what: told(name, pair) for what, pair in pairs.items()} for name in TASKS}
    maps = {arm: read(path) for arm in MAPS if (path := work/toi/arm/'map.json').exists()}
    return {'plane': plane, 'maps': maps, 'promoted': changed}


def collect(work, path):
    "Everything that the notebook shows, in one file."
    arms = list(dict.fromkeys(['gold', *(name for part in parts().values() for name in part)]))
    cells = {name: {arm: found for arm in arms if (found := cells_of(work, name, arm))} for name in TASKS}
    tests = {name: read(work/name/'labels.json') for name in TASKS}
    known = {name: sorted(set(labels)) for name, labels in tests.items()}
    codes = {name: ''.join(str(known[name].index(label)) for label in labels) for name, labels in tests.items()}
    judges = {name: read(work/name/'masked'/'0.json')['judge'] for name in TASKS}
    whole = {name: {arm: read(found) for arm in arms if (found := work/name/arm/'together.json').exists()}
             for name in TASKS}
    cosines = {arm: mean_cosines(found) for arm, found in cells['toi_headlines'].items()}
    sampling = USUAL | {'max_new_tokens': f"the task's, at most {TOKENS}"}
    found = {'stamp': stamp(CausalTeacher('pocket'), sampling, n=N, seeds=SEEDS), 'planned': planned(), 'labels': known,
             'tests': codes, 'judges': judges, 'together': whole, 'cosines': cosines} | pictures(work)
    found['cells'] = {name: {arm: slim(arm, one) for arm, one in found.items()} for name, found in cells.items()}
    path.write_text(json.dumps(rounded(found, 5), allow_nan=False), encoding='utf-8')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=Path('runs/comparison'), help='folder for the datasets')
    parser.add_argument('--tasks', default=','.join(TASKS), help='tasks, with commas between')
    parser.add_argument('--parts', default=','.join(parts()), help='parts, with commas between')
    parser.add_argument('--collect', type=Path, metavar='FILE',
                        help='only gather what is there in a file for the notebook')
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.collect: return collect(args.work, args.collect)
    run(args.work, args.tasks.split(','), args.parts.split(','))


if __name__ == '__main__': main()
