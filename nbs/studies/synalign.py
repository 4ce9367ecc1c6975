"""SynAlign with attributes: what selections cover, how the length scale matters, what the texts are like, and what a
student learns from them.

    python nbs/studies/synalign.py --work runs/synalign                                        all of it: about a
    quarter of an hour on one CPU core
    python nbs/studies/synalign.py --work runs/synalign --tasks sst2                           one task
    python nbs/studies/synalign.py --work runs/synalign --collect nbs/studies/synalign.json

Every step leaves a file in the working folder and is passed over when the file is there, so the command may be stopped
and given again.
Gold data is found through SYNTHLAB_GOLD. No gold text is written anywhere; the working folder keeps their embeddings.
"""
import argparse
import json
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.neighbors import KDTree

from synthlab.select.coverage import coverage_curve, coverage_rate, length_scale_sweep, neighbour_coverage, to_plane
from synthlab.tasks.gold import load_gold
from synthlab.embeddings import Embedder, GoldClassifier
from synthlab.measure.fidelity import mmd
from synthlab.measure.evaluate import Rows, sample_places
from synthlab.run.generate import generate
from synthlab.measure.labels import project
from synthlab.run.prepare import make_plan, prepare
from synthlab.run.recipe import Recipe
from synthlab.select.selectors import select_rows
from synthlab.align.choices import MMDAlignment
from synthlab.select.choices import principal_rows, SpreadSelection, UncertaintySelection
from synthlab.tasks.task import load_task
from synthlab.teacher.causal import CausalTeacher

from protocol import USUAL, stamp
from steps import balanced, once, rounded

# SST-2's own train part is made of phrases, its test part of sentences: pools are drawn from the sentences of the train part.
TASKS = {'sst2': 'train_sentences', 'ag_news': 'train'}
# A seed has a pool of its own, no row of which is in another.
POOLS, POOL, TEST, TOKENS = 5, 960, 1000, 64
TEXTS, SEEDS = 160, (0, 1, 2)                                    # texts of a recipe; pools that texts are written from
SIZES, SCALES = (5, 10, 20, 50, 100), (.1, .2, .3, .5, 1., 2., 5.)
# Demonstrations of a label whose attributes are written from.
DEMOS = (4, 20)


def released_code(X, n, seed):
    "Picks of SynAlign's released code, shape (n, 1); nbs/select/02_selectors.ipynb explains it and its fault."
    observed, clusters = [int(np.random.RandomState(seed).randint(len(X)))], []
    tree = KDTree(X)
    for _ in range(n):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            model = GaussianProcessRegressor(RBF(.1), alpha=1e-10).fit(X[observed], np.zeros(len(observed)))
            free = np.setdiff1d(np.arange(len(X)), observed)
            centre = int(free[model.predict(X[free], return_std=True)[1].argmax()])
        clusters.append(tree.query(X[[centre]], 1)[1][0])
        observed += dict.fromkeys([centre, *(j for j in clusters[-1].tolist() if j not in observed)])
    return np.array(clusters)


PICKED = {'uncertainty': UncertaintySelection().pick, 'uncertainty, unscaled': lambda X, n,
          seed: select_rows(principal_rows(X, 16), n, 'gp', normalize=False),
          'uncertainty, all axes': UncertaintySelection(axes=0).pick, 'random': SpreadSelection('random').pick,
          'farthest': SpreadSelection('farthest').pick,
          'k-means': SpreadSelection('stratified').pick, "the authors' code": released_code}


def recipes(rows):
    "Recipes by name; a label has so many rows, and their number for each record follows."
    found = {f'{select}-{n}': Recipe.synalign(select=stage, per_record=rows//n) for n in reversed(DEMOS)
             for select, stage in (('uncertainty', UncertaintySelection()), ('random', 'random'),
                                   *([('k-means', SpreadSelection('stratified'))] if n == max(DEMOS) else []))}
    return found | {'attrprompt': Recipe.attrprompt(), 'few-shot': Recipe.fewgen(shots=1)}


@dataclass
class Gold:
    "A task with pools that demonstrations are selected from, and the rows that everything is measured on."
    name: str
    embedder: Embedder

    @cached_property
    def task(self):
        "The task with those of its labels that the gold data has."
        task = load_task(self.name)
        found = set(Rows.of(load_gold(None, task)).labels)
        return task.model_copy(update={'labels': tuple(label for label in task.labels if label.name in found)})

    @cached_property
    def test(self): return balanced(Rows.of(load_gold(None, self.task)), TEST)

    @cached_property
    def train(self):
        seen, rows = set(self.test.texts), Rows.of(load_gold(None, self.task, part=TASKS.get(self.name, 'train')))
        first = {text: n for n, text in reversed(list(enumerate(rows.texts))) if text not in seen}
        return balanced(rows.take(sorted(first.values())), POOLS*POOL)

    @cached_property
    def X(self): return self.embedder.encode(self.train.texts, progress=False)
    @cached_property
    def T(self): return self.embedder.encode(self.test.texts, progress=False)
    @cached_property
    def judge(self): return GoldClassifier(C=10.).fit(self.X, self.train.labels)

    def places(self, pool, label): return np.flatnonzero(np.array(self.train.labels) == label)[pool::POOLS]
    def all_places(self, pool): return np.concatenate([self.places(pool, label) for label in self.task.label_names])
    def tested(self, label): return self.T[np.array(self.test.labels) == label]

    def demonstrations(self, pool):
        "A pool as recipes take it; the id of a row is its place."
        return {label: [{'id': str(place), 'text': self.train.texts[place]} for place in self.places(pool, label)]
                for label in self.task.label_names}

    def student(self, X, labels, weights=None):
        "Accuracy and macro-F1 on gold test rows of a logistic regression on embeddings."
        found = LogisticRegression(C=10, max_iter=500).fit(X, labels, sample_weight=weights).predict(self.T)
        return [float(accuracy_score(self.test.labels, found)),
                float(f1_score(self.test.labels, found, average='macro'))]


def picked_study(gold, pool):
    """Each selection in one pool: coverage against the number of picks, the mean over labels, and a student of the
    picks."""
    labels, found = gold.task.label_names, {}
    for name, pick in PICKED.items():
        X = {label: gold.X[gold.places(pool, label)] for label in labels}
        picks = {label: pick(X[label], max(SIZES), pool)[:, 0] for label in labels}
        curves = {measure: np.mean([coverage_curve(X[label], picks[label], SIZES, measure) for label in labels],
                                   axis=0).tolist() for measure in ('hull', 'neighbours')}
        taught = [gold.student(np.concatenate([X[label][picks[label][:n]] for label in labels]), np.repeat(labels, n))
                  for n in SIZES]
        found[name] = curves | {'student': [accuracy for accuracy, _ in taught]}
    return found


def scale_study(gold, pool):
    """The share of rows inside the hull, by length scale and number of picks, the mean over labels: on 16 principal
    axes, rows scaled to length 1 or not, and on all axes."""
    def swept(axes, scaled=True):
        sweeps = [length_scale_sweep(principal_rows(gold.X[gold.places(pool, label)], axes), SIZES, SCALES,
                                     tracker={'normalize': scaled}) for label in gold.task.label_names]
        return {key: np.mean([sweep[key] for sweep in sweeps], axis=0).tolist() for key in ('coverage', 'tied')}
    return {'16 axes': swept(16), '16 axes, unscaled': swept(16, False), 'all axes': swept(0)}


def write_texts(gold, teacher, recipe, seed, calls):
    "Accepted rows of a recipe, each with the place of its demonstration; and how many demonstrations gave attributes."
    task, pool = gold.task, gold.demonstrations(seed)
    wanted = {label: TEXTS//len(task.labels) for label in task.label_names}
    plan = make_plan(recipe, pool, wanted, seed, gold.embedder)
    found = prepare(recipe, task, teacher, pool, wanted, seed, plan, calls)
    run = generate(recipe.decode, task, teacher, TEXTS, seed=seed, prompts=recipe.prompt.prompts(task, pool, found.plan,
        found.records), recipe=recipe.name, calls=calls)
    rows = [row for group in run for row in group.rows if row['status'] == 'accepted']
    return {'texts': [row['text'] for row in rows], 'labels': [row['label'] for row in rows],
            'shown': [int(row['demos'][0]) if row['demos'] else -1 for row in rows],
            'extraction': found.extraction.counts if found.extraction else None}


@dataclass
class Texts:
    "Rows with their embeddings, and their weights towards a pool."
    labels: np.ndarray
    E: np.ndarray
    weights: np.ndarray
    ess: float
    shown: np.ndarray


def read_texts(gold, found, pool):
    aligned = MMDAlignment().align(found['texts'], found['labels'], gold.demonstrations(pool), {}, pool, gold.embedder)
    return Texts(np.array(found['labels']), gold.embedder.encode(found['texts'], progress=False), aligned.weights,
                 aligned.summary['ess'], np.array(found['shown']))


def echo(gold, texts, seed):
    "Mean cosine of a text to its demonstration, and to that of another text of its label."
    if (texts.shown < 0).any(): return None
    rng, other = np.random.default_rng(seed), texts.shown.copy()
    for label in gold.task.label_names: other[texts.labels == label] = rng.permutation(other[texts.labels == label])
    away = other != texts.shown
    return [float((texts.E*gold.X[places]).sum(1)[away].mean()) for places in (texts.shown, other)]


def measure(gold, texts, seed):
    "What texts are like and what they teach, where it applies with equal weights and with those of MMD."
    labels, equal = gold.task.label_names, np.ones(len(texts.labels))
    own = [(gold.tested(label), texts.E[texts.labels == label]) for label in labels]
    right = np.array(gold.judge.predict(texts.E)) == texts.labels
    some = np.random.default_rng(seed).permutation(gold.all_places(seed))[:100]
    known, both = np.array(gold.train.labels), {'equal': equal, 'mmd': texts.weights}
    def taught(weights, places):
        return gold.student(np.concatenate([texts.E, gold.X[places]]), [*texts.labels, *known[places]],
                            np.concatenate([weights, np.ones(len(places))]))
    return {'n': len(right), 'ess': texts.ess, 'echo': echo(gold, texts, seed),
            'hull': float(np.mean([coverage_rate(T, E) for T, E in own])),
            'neighbours': float(np.mean([neighbour_coverage(T, E) for T, E in own])),
            'distance': {way: mmd(gold.T, texts.E, weights, times=10).value for way, weights in both.items()},
            'fidelity': {way: float(np.average(right, weights=weights)) for way, weights in both.items()},
            'student': {way: taught(weights, some[:0]) for way, weights in both.items()},
            'with gold': {way: taught(weights, some) for way, weights in both.items()},
            'gold alone': gold.student(gold.X[some], known[some])}


def real_rows(gold, seed):
    "As many gold rows of another pool in the place of texts: what can be reached."
    places = np.concatenate([gold.places((seed + len(SEEDS)) % POOLS, label)[:TEXTS//len(gold.task.labels)]
                             for label in gold.task.label_names])
    return {'texts': [gold.train.texts[place] for place in places],
            'labels': [gold.train.labels[place] for place in places], 'shown': [-1]*len(places)}


def planes(gold, sets):
    """Gold test rows and texts on one plane: by t-SNE, and by the principal axes of the gold rows, in which hulls are
    drawn."""
    few = sample_places(gold.test.labels, 300)
    points, flat = project({'gold': gold.T[few]} | {name: texts.E for name, texts in sets.items()},
                           'tsne'), to_plane(gold.T, *(texts.E for texts in sets.values()))
    return {name: {'tsne': points[name].tolist(), 'plane': plane.tolist(), 'weights': sets[name].weights.tolist()
                   if name in sets else None}
            for name, plane in zip(points, [flat[0][few], *flat[1:]])} | {'covered': {name: coverage_rate(flat[0],
                plane) for name, plane in zip(sets, flat[1:])}}


def study_task(work, name, embedder, teacher):
    "All steps of one task."
    gold, folder = Gold(name, embedder), work/name
    once(folder/'picked.json', lambda: [picked_study(gold, pool) for pool in range(POOLS)])
    once(folder/'scale.json', lambda: [scale_study(gold, pool) for pool in range(POOLS)])
    chosen, found = recipes(TEXTS//len(gold.task.labels)), {}
    for seed in SEEDS:
        # Attributes that were asked for serve the other recipes too.
        calls = {}
        written = {recipe: once(folder/f'texts-{recipe}-{seed}.json', lambda: write_texts(gold, teacher, chosen[recipe],
            seed, calls)) for recipe in chosen}
        found[seed] = {recipe: read_texts(gold, rows, seed) for recipe,
                       rows in (written | {'real rows': real_rows(gold, seed)}).items()}
    once(folder/'measures.json', lambda: {recipe: [measure(gold, found[seed][recipe], seed) for seed in SEEDS]
                                          for recipe in found[0]})
    once(folder/'planes.json', lambda: planes(gold,
                                              {recipe: found[0][recipe] for recipe in ('attrprompt',
                                                  f'uncertainty-{max(DEMOS)}')}))
    once(folder/'extraction.json',
         lambda: {recipe: [json.loads((folder/f'texts-{recipe}-{seed}.json').read_text())['extraction']
                           for seed in SEEDS] for recipe in chosen})


def collect(work, path):
    "Everything that the notebook shows, in one file."
    parts = ('picked', 'scale', 'measures', 'planes', 'extraction')
    found = {name: {part: json.loads((work/name/f'{part}.json').read_text(encoding='utf-8')) for part in parts}
             for name in TASKS}
    command = ('python nbs/studies/synalign.py --work runs/synalign; python nbs/studies/synalign.py --work '
               'runs/synalign --collect nbs/studies/synalign.json')
    settings = {'sizes': SIZES, 'scales': SCALES, 'demos': DEMOS, 'texts': TEXTS, 'pool': POOL,
                'teacher': CausalTeacher('pocket').identity['revision']}
    mark = stamp(CausalTeacher('pocket'), USUAL, n=TEXTS, seeds=SEEDS)
    found = {'stamp': mark, 'command': command, **settings, 'tasks': found}
    path.write_text(json.dumps(rounded(found, 5), allow_nan=False), encoding='utf-8')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=Path('runs/synalign'),
                        help='folder for embeddings, texts and results')
    parser.add_argument('--tasks', default=','.join(TASKS), help='tasks, with commas between')
    parser.add_argument('--collect', type=Path, metavar='FILE', help='only gather what is there in a file for '
                        'the notebook')
    args = parser.parse_args()
    if args.collect: return collect(args.work, args.collect)
    args.work.mkdir(parents=True, exist_ok=True)
    embedder, teacher = Embedder(max_length=TOKENS, cache=args.work/'embeddings.db'), CausalTeacher('pocket',
        dtype='bfloat16')
    for name in args.tasks.split(','): study_task(args.work, name, embedder, teacher)


if __name__ == '__main__': main()
