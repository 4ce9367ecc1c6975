"""Does SynAlign's selection help, and does its alignment? Coverage, MMD, and what students learn, on four tasks.

    python nbs/studies/alignment.py --work runs/alignment                                      all of it: some hours
    on one CPU core
    python nbs/studies/alignment.py --work runs/alignment --tasks sst2                         one task
    python nbs/studies/alignment.py --work runs/alignment --collect nbs/studies/alignment.json

Every step leaves a file in the working folder and is passed over when the file is there, so the command may be stopped
and given again.
Gold data is found through SYNTHLAB_GOLD. No gold text is written anywhere; the working folder keeps their embeddings.
"""
import argparse
import json
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score

from synthlab.align.weights import MMDWeights, resample
from synthlab.run.rows import clean_text, rejection, shorten
from synthlab.decode.choices import FewGen
from synthlab.select.coverage import coverage_rate, to_plane
from synthlab.tasks.gold import load_gold
from synthlab.decode.loop import Sampling, decode
from synthlab.embeddings import Embedder
from synthlab.measure.evaluate import Rows
from synthlab.align.mmd import mmd2
from synthlab.measure.students import Student
from synthlab.util import derive_seed
from synthlab.tasks.task import load_task, messages
from synthlab.teacher.causal import CausalTeacher
from synthlab.select.uncertainty import UncertaintyTracker, median_distance

from protocol import USUAL, stamp
from steps import balanced, once, rounded

# SST-2's own train part is made of phrases, its test part of sentences: the pool is drawn from the sentences of the train part.
# The Amazon data has 13 of the task's 23 labels.
TASKS = {'sst2': 'train_sentences', 'ag_news': 'train', 'amazon_category': 'train', 'imdb': 'train'}
POOL, TEST, TEXTS, TOKENS = 4000, 2000, 1000, 64
# Tasks whose texts are also written from a tenth of the demonstrations.
FEW = ('sst2', 'ag_news')


@dataclass
class Gold:
    "A task with the pool that demonstrations are selected from, and the rows that everything is measured on."
    name: str
    embedder: Embedder

    @cached_property
    def parts(self):
        task = load_task(self.name)
        train, test = (Rows.of(load_gold(None, task, part=part)) for part in (TASKS[self.name], 'test'))
        seen = set(test.texts)
        return balanced(train.take([i for i, text in enumerate(train.texts) if text not in seen]), POOL), balanced(test,
            TEST)

    @property
    def pool(self): return self.parts[0]
    @property
    def test(self): return self.parts[1]

    @cached_property
    def task(self):
        task, found = load_task(self.name), set(self.pool.labels)
        return task.model_copy(update={'labels': tuple(label for label in task.labels if label.name in found)})

    @cached_property
    def X(self): return self.embedder.encode(self.pool.texts, progress=False)
    @cached_property
    def T(self): return self.embedder.encode(self.test.texts, progress=False)

    def places(self, label):
        "Rows of the pool with a label."
        return np.flatnonzero(np.array(self.pool.labels) == label)


def random_order(gold, n, seed):
    "For each label the places of n random rows of the pool."
    return {label: np.random.default_rng(derive_seed(seed, 'random', label)).permutation(gold.places(label))[:n]
            for label in gold.task.label_names}


def write_texts(gold, teacher, picks, seed=0):
    "FewGen with one demonstration: text t of a label is shown the t-th pick of that label."
    task, sampling = gold.task, Sampling(min(TOKENS, gold.task.max_new_tokens), temperature=.95, top_p=.9)
    def demo(label, t): return shorten(gold.pool.texts[picks[label][t]], teacher, sampling.max_new_tokens)
    def plan(t):
        prompts = [teacher.render(messages(task, label, [demo(label, t)]), task.cue) for label in task.label_names]
        return FewGen().plan(prompts, list(task.label_names), derive_seed(seed, 'group', t, 'tokens'), t)
    found = {}
    for done, completions in decode(teacher, map(plan, range(min(map(len, picks.values())))), sampling, 64):
        texts = [clean_text(completion.text, task.cue) for completion in completions]
        found[done.name] = [(text, label, int(picks[label][done.name])) for text, label in zip(texts, task.label_names)
                            if not rejection(text, [demo(label, done.name)])]
    texts, labels, shown = zip(*(row for t in sorted(found) for row in found[t]))
    return {'texts': texts, 'labels': labels, 'shown': shown}


def principal(X, dims):
    "Rows on their first principal axes."
    X = X - X.mean(0)
    return X @ np.linalg.svd(X, full_matrices=False)[2][:dims].T


def uncertain_order(gold, n, factor=.5, dims=384, cluster=1, cosine=False):
    """For each label the places of n rows of the pool, each the most uncertain given those before it; the length scale
    is so many median distances."""
    def order(places):
        X = gold.X[places] if dims == 384 else principal(gold.X[places], dims)
        return places[UncertaintyTracker(scale=factor, normalize=cosine).fit(X).select(n, cluster_size=cluster)]
    return {label: order(gold.places(label)) for label in gold.task.label_names}


def covered(gold, planes, order, n):
    """What the first n picks of each label cover of its rows, as the mean over labels: the share inside their convex
    hull in the plane,
    and the cosine of a row to its nearest pick, for the mean row and for the 5% that are farthest off."""
    rows = []
    for label, flat in planes.items():
        places, few = gold.places(label), order[label][:n]
        nearest = (gold.X[places] @ gold.X[few].T).max(1)
        rows.append((coverage_rate(flat, flat[np.searchsorted(places, few)]), nearest.mean(),
                     np.quantile(nearest, .05)))
    return np.mean(rows, axis=0).tolist()


SCALES = (.2, .3, .5, 1., 2., 5.)
AXES = (2, 4, 8, 16, 32, 64, 128, 384)
VARIANTS = {f'{dims}-{factor}': dict(factor=factor, dims=dims) for dims in AXES
            for factor in (SCALES if dims in (16, 384) else (.5,))} | {
    'cluster': dict(dims=16, cluster=2), 'cosine': dict(dims=16, cosine=True)}


def coverage_study(gold, draws=10):
    """Coverage against the number of picks: by uncertainty in several forms, and by random draws; and what the picks
    are worth as training rows."""
    labels, most = gold.task.label_names, min(len(gold.places(label)) for label in gold.task.label_names)
    sizes = [int(n) for n in np.unique(np.geomspace(5, most//2, 9).round())]
    planes = {label: to_plane(gold.X[gold.places(label)])[0] for label in labels}
    orders = {name: uncertain_order(gold, sizes[-1], **how) for name, how in VARIANTS.items()}
    chance = [random_order(gold, sizes[-1], seed) for seed in range(draws)]
    def taught(order, n):
        places = np.concatenate([order[label][:n//len(labels)] for label in labels])
        return student_score(gold.X[places], labels_at(gold, places), gold)
    def both(order): return {n: taught(order, n) for n in (100, 300)}
    return {'sizes': sizes, 'rows': most, 'uncertainty': {name: [covered(gold, planes, order, n) for n in sizes]
                                                          for name, order in orders.items()},
            'random': [[covered(gold, planes, order, n) for n in sizes] for order in chance],
            'taught': {name: both(order) for name, order in orders.items()},
            'taught_random': [both(order) for order in chance]}


def labels_at(gold, places): return [gold.pool.labels[i] for i in places]


def student_score(X, labels, gold, weights=None):
    "Logistic regression on embeddings, scored on gold test rows: accuracy and macro-F1."
    student = LogisticRegression(C=10, max_iter=500).fit(X, labels, sample_weight=None if weights is None
                                                         else np.asarray(weights)*len(weights)/np.sum(weights))
    found = student.predict(gold.T)
    return [float(accuracy_score(gold.test.labels, found)), float(f1_score(gold.test.labels, found, average='macro'))]


@dataclass
class Written:
    "Synthetic rows with their embeddings."
    texts: list
    labels: np.ndarray
    E: np.ndarray
    shown: np.ndarray

    def take(self, places):
        return Written([self.texts[i] for i in places], self.labels[places], self.E[places], self.shown[places])
    def __len__(self): return len(self.texts)


def read_texts(path, embedder):
    found = json.loads(path.read_text(encoding='utf-8'))
    return Written(found['texts'], np.array(found['labels']), embedder.encode(found['texts'], progress=False),
                   np.array(found['shown']))


def weigh(gold, rows, **options):
    "MMD weights of synthetic rows, label by label, towards the pool."
    return MMDWeights(**options).fit(gold.X, rows.E, gold.pool.labels, rows.labels.tolist())


def half_of(rows, rng, share=.5):
    "Places of a random half of the rows of each label."
    return np.sort(np.concatenate([rng.permutation(np.flatnonzero(rows.labels == label))[:int(share*(rows.labels
        == label).sum())] for label in np.unique(rows.labels)]))


def resampled(rows, weights, rng):
    """Places of half of the rows, each drawn at most once: by label, so that labels keep their shares. Rows of no
    weight fill up where too few have any."""
    chosen, weights = [], weights + 1e-3/len(rows)
    for label in np.unique(rows.labels):
        places = np.flatnonzero(rows.labels == label)
        chosen.append(places[resample(weights[places]/weights[places].sum(), len(places)//2, rng, method='unique')])
    return np.sort(np.concatenate(chosen))


WAYS = ('uniform', 'weights', 'resampled', 'half')


def align(rows, way, weights, seed):
    """Rows in one of four ways, with weights that sum to 1: all alike, weighted, half of them drawn by weight, half of
    them drawn at random."""
    rng = np.random.default_rng(derive_seed(seed, way))
    if way == 'weights': return rows, weights()
    places = {'uniform': lambda: np.arange(len(rows)), 'resampled': lambda: resampled(rows, weights(), rng),
              'half': lambda: half_of(rows, rng)}[way]()
    return rows.take(places), np.full(len(places), 1/len(places))


def distance(gold, rows, weights, bandwidth):
    "MMD squared of weighted rows to 1,000 gold test rows, which no weight was fitted to."
    return float(mmd2(gold.T[:1000], rows.E, wy=weights, bandwidth=bandwidth))


GOLD_ROWS = (0, 100, 300, 1000)


def with_gold(gold, rows, weights, n, rng):
    "Score of a student of weighted rows, 1 on average, and n gold rows of weight 1."
    places = rng.permutation(len(gold.pool))[:n]
    X, labels = np.vstack([rows.E, gold.X[places]]), [*rows.labels, *labels_at(gold, places)]
    return student_score(X, labels, gold, np.concatenate([weights*len(rows), np.ones(n)]))


def half_study(gold, rows, seed, mixed):
    """A random half of the texts, aligned in each way: distance to gold and what students learn, where asked also of a
    mixture with gold rows."""
    rows, bandwidth = rows.take(half_of(rows, np.random.default_rng(seed))), median_distance(gold.X)
    fit, found = weigh(gold, rows), {}
    for way in WAYS:
        few, weights = align(rows, way, lambda: fit.weights_, seed)
        counts = GOLD_ROWS if mixed and way in ('uniform', 'weights') else (0,)
        found[way] = {'mmd2': distance(gold, few, weights, bandwidth),
                      'students': {n: with_gold(gold, few, weights, n, np.random.default_rng(seed)) for n in counts}}
    return {'n': len(rows), 'ess': float(fit.ess_), 'ways': found}


def gold_study(gold, n, seed):
    "The floors: as many gold rows as a half has texts, and students of gold rows alone."
    rng, bandwidth = np.random.default_rng(seed), median_distance(gold.X)
    places = rng.permutation(len(gold.pool))
    own = {m: student_score(gold.X[places[:m]], labels_at(gold, places[:m]), gold) for m in GOLD_ROWS[1:]}
    return {'mmd2': float(mmd2(gold.T[:1000], gold.X[places[:n]], bandwidth=bandwidth)), 'students': own}


HALVES, SWEEP_HALVES, MIXED = 10, 5, ('random', 'uncertainty-16')


def halves_study(gold, written):
    "Ten random halves of each set of texts."
    halves = {name: [half_study(gold, rows, seed, name in MIXED) for seed in range(HALVES)] for name,
              rows in written.items()}
    n = next(iter(halves.values()))[0]['n']
    return {'halves': halves, 'gold': [gold_study(gold, n, seed) for seed in range(HALVES)]}


SWEEPS = {'ridge': (0., 1e-4, 1e-3, 1e-2, 1e-1, 1.), 'n_features': (256, 512, 1024, 2048, 4096),
          'features': ('rff', 'kernel', 'linear', 'relu'),
          'bandwidth': (.25, .5, 1., 2.), 'cap': (1.5, 2., 4., 8.)}


def setting_study(gold, rows, seed, **options):
    "One half of the texts, weighted in one way."
    rng, bandwidth = np.random.default_rng(seed), median_distance(gold.X)
    few = rows.take(half_of(rows, rng))
    if 'bandwidth' in options: options['bandwidth'] *= bandwidth
    start = time.perf_counter()
    fit = weigh(gold, few, **options)
    return {'seconds': time.perf_counter() - start, 'ess': float(fit.ess_), 'mmd2': distance(gold, few, fit.weights_,
        bandwidth),
            'student': student_score(few.E, few.labels, gold, fit.weights_)}


def sweep_study(gold, rows):
    "Ridge, number of features, kind of features, bandwidth in medians, and cap, one at a time."
    return {option: {str(value): [setting_study(gold, rows, seed, **{option: value}) for seed in range(SWEEP_HALVES)]
                     for value in values} for option, values in SWEEPS.items()}


SEEDS = (0, 1, 2)


def tuned_student(gold, rows, way, seed):
    "A fine-tuned student of all texts, aligned in one way, on gold test rows."
    few, weights = align(rows, way, lambda: weigh(gold, rows).weights_, seed)
    student = Student('minilm', recipe='quick', seed=seed, max_length=TOKENS).fit(Rows(few.texts,
        few.labels.tolist()).records(), weights=weights.tolist())
    score = student.score(gold.test.take(range(1000)).records()).to_dict()
    return {'accuracy': score['value'], 'macro_f1': score['details']['macro_f1'], 'n': len(few),
            'test_rows': score['n'], 'seconds': student.seconds_}


def echo(gold, rows, seed=0):
    "Mean cosine of a text to its demonstration, and to that of another text of its label."
    rng, other = np.random.default_rng(seed), rows.shown.copy()
    for label in np.unique(rows.labels): other[rows.labels == label] = rng.permutation(other[rows.labels == label])
    return [float((rows.E*gold.X[places]).sum(1).mean()) for places in (rows.shown, other)]


def whole(gold, rows):
    """All texts: effective sample size of their weights, distances, the share of labels that a judge of gold rows
    agrees with, and how much of its demonstration a text has."""
    fit, bandwidth = weigh(gold, rows), median_distance(gold.X)
    both = np.full(len(rows), 1/len(rows)), fit.weights_
    agree = LogisticRegression(C=10, max_iter=500).fit(gold.X, gold.pool.labels).predict(rows.E) == rows.labels
    return {'n': len(rows), 'echo': echo(gold, rows), 'ess': float(fit.ess_), 'fitted': [float(fit.mmd_uniform_),
        float(fit.mmd_)], 'zero': float((fit.weights_ < 1e-9).mean()),
            'mmd2': [distance(gold, rows, weights, bandwidth) for weights in both],
            'fidelity': [float(weights @ agree) for weights in both]}


def study_task(work, name, embedder, students=True):
    "All steps of one task."
    gold, folder, n = Gold(name, embedder), work/name, TEXTS
    per_label = n//len(gold.task.labels)
    def tenth(order): return {label: np.tile(places[:per_label//10], 12)[:per_label] for label, places in order.items()}
    orders = {'random': lambda: random_order(gold, per_label, 0), 'uncertainty-16': lambda: uncertain_order(gold,
        per_label, dims=16),
              'uncertainty-384': lambda: uncertain_order(gold, per_label), 'cosine-16': lambda: uncertain_order(gold,
                  per_label, dims=16, cosine=True)}
    if name in FEW:
        orders |= {f'{select}-few': lambda order=orders[select]: tenth(order()) for select in ('random',
            'uncertainty-16')}
    once(folder/'coverage.json', lambda: coverage_study(gold))
    for select, order in orders.items():
        once(folder/f'texts-{select}.json', lambda: write_texts(gold, CausalTeacher('pocket', dtype='bfloat16'),
            order()))
    written = {select: read_texts(folder/f'texts-{select}.json', embedder) for select in orders}
    once(folder/'whole.json', lambda: {select: whole(gold, rows) for select, rows in written.items()}
         | {'judge': student_score(gold.X, gold.pool.labels, gold)})
    once(folder/'halves.json', lambda: halves_study(gold, written))
    once(folder/'sweep.json', lambda: sweep_study(gold, written['random']))
    if students: study_students(folder, gold, written)


def study_students(folder, gold, written):
    "Fine-tuned students, the cells of the ablation first."
    for ways in (('uniform', 'weights'), ('half', 'resampled')):
        for select in MIXED:
            for way in ways:
                for seed in SEEDS:
                    once(folder/f'student-{select}-{way}-{seed}.json', lambda: tuned_student(gold, written[select], way,
                        seed))


PARTS = ('coverage', 'whole', 'halves', 'sweep')


def collect(work, path):
    "Everything that the notebook shows, in one file."
    def read(file): return json.loads(file.read_text(encoding='utf-8'))
    found = {}
    for name in TASKS:
        found[name] = {part: read(work/name/f'{part}.json') for part in PARTS if (work/name/f'{part}.json').exists()}
        found[name]['students'] = {file.stem.removeprefix('student-'): read(file)
                                   for file in sorted((work/name).glob('student-*.json'))}
    command = ('python nbs/studies/alignment.py --work runs/alignment; python nbs/studies/alignment.py --work '
               'runs/alignment --collect nbs/studies/alignment.json')
    sampling = USUAL | {'max_new_tokens': f"the task's, {TOKENS} at most"}
    mark = stamp(CausalTeacher('pocket'), sampling, n=1000, seeds=1)
    path.write_text(json.dumps(rounded({'stamp': mark, 'command': command, 'tasks': found}, digits=6), allow_nan=False),
                    encoding='utf-8')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=Path('runs/alignment'),
                        help='folder for embeddings, texts and results')
    parser.add_argument('--tasks', default=','.join(TASKS), help='tasks, with commas between')
    parser.add_argument('--collect', type=Path, metavar='FILE', help='only gather what is there in a file for '
                        'the notebook')
    args = parser.parse_args()
    if args.collect: return collect(args.work, args.collect)
    args.work.mkdir(parents=True, exist_ok=True)
    Student.progress, embedder = False, Embedder(max_length=TOKENS, cache=args.work/'embeddings.db')
    for students in (False, True):                                # the fine-tuned students last: they take longest
        for name in args.tasks.split(','): study_task(args.work, name, embedder, students)


if __name__ == '__main__': main()
