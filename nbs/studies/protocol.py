"""How studies compare: what counts as one observation, which rows are scored, what a result file says of itself.

The page beside this file, protocol.ipynb, derives each function and shows it on small cases. Values of a study are
nested: recipe, task, seed of the generation. A student's seeds are averaged inside a dataset: the dataset is the unit.
"""
import dataclasses
import datetime
import hashlib
import itertools
import json
import os
import re
import subprocess
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

import synthlab
from synthlab.bakeoff.cells import split_gold
from synthlab.decode.model import model_path
from synthlab.measure.evaluate import Rows
from synthlab.measure.quality import gold_parts
from synthlab.tasks.gold import load_gold
from synthlab.tasks.task import load_task

ROOT = Path(__file__).resolve().parents[2]
SEEDS = 8                                        # generation seeds of a study, at least


class Estimate(NamedTuple):
    "A mean difference: its interval, its two-sided p-value, its standard error and the degrees of freedom of that."
    mean: float
    low: float
    high: float
    p: float
    se: float
    df: float


def t_estimate(mean, se, df, level=.95):
    "Student's t: an estimate from a mean, its standard error and degrees of freedom."
    half = stats.t.ppf((1 + level)/2, df)*se
    p = 2*stats.t.sf(abs(mean)/se, df) if se > 0 else float(mean == 0)
    return Estimate(float(mean), float(mean - half), float(mean + half), float(p), float(se), float(df))


def dataset_means(rows):
    "Values by recipe, task and generation seed from tuples (recipe, task, seed, student seed, value)."
    found = {}
    for recipe, task, seed, _, value in rows:
        found.setdefault(recipe, {}).setdefault(task, {}).setdefault(seed, []).append(value)
    return {recipe: {task: {seed: float(np.mean(v)) for seed, v in seeds.items()} for task, seeds in tasks.items()}
            for recipe, tasks in found.items()}


def shared_seeds(one, other):
    "The seeds of both, ascending; ValueError for fewer than two."
    seeds = sorted(set(one) & set(other))
    if len(seeds) < 2: raise ValueError(f'{len(seeds)} seeds in common ({seeds}): a paired difference needs two')
    return seeds


def differences(values, one, other):
    "By task the differences of two recipes, seed by seed: arrays (S,)."
    return {task: np.array([values[one][task][seed] - values[other][task][seed]
                            for seed in shared_seeds(values[one][task], values[other][task])])
            for task in values[one] if task in values[other]}


def row_draws(score, n, times=500, rng=None):
    """Scores on resampled test rows: `score` maps places (n,) to an array of any shape, all recipes and seeds at once.

    Every recipe and seed is scored on the same rows of a draw, so what makes a row easy for all cancels in differences.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    return np.array([score(rng.integers(n, size=n)) for _ in range(times)])


def covariance(values, draws=None):
    "Covariance (K, K) of the mean over seeds of K contrasts (K, S); draws (B, K, S) add the noise of the test rows."
    values = np.atleast_2d(values)
    seeds = values.shape[1]
    found = np.atleast_2d(np.cov(values))/seeds
    if draws is None: return found
    alone = draws - draws.mean(-1, keepdims=True)
    # chance of single rows with single datasets is in both parts; it counts once
    twice = sum(np.atleast_2d(np.cov(alone[..., s].T)) for s in range(seeds))/(seeds*(seeds - 1))
    size, axes = np.linalg.eigh(np.atleast_2d(np.cov(draws.mean(-1).T)) - twice)
    return found + (axes*np.maximum(size, 0)) @ axes.T


def paired_difference(values, draws=None, level=.95):
    """The mean of differences (S,) of one task, paired by seed: Student's t over datasets.

    `draws` (B, S), the same differences on resampled test rows, widen the interval by the test set's own noise.
    """
    values = np.asarray(values, float)
    if values.ndim != 1 or len(values) < 2: raise ValueError(f'differences by seed (S,), two at least: {values.shape}')
    alone = values.var(ddof=1)/len(values)
    whole = covariance(values, None if draws is None else np.asarray(draws)[:, None])[0, 0]
    # Satterthwaite: the rows are many, only the part of the seeds is uncertain
    df = (len(values) - 1)*(whole/alone)**2 if alone > 0 else np.inf
    return t_estimate(values.mean(), whole**.5, df, level)


def clustered(values, level=.95):
    "Differences by task, pooled: the mean of task means, its spread over tasks, t on tasks - 1 degrees of freedom."
    means = np.array([np.mean(v) for v in values.values()])
    if len(means) < 2: raise ValueError(f'{len(means)} task: a spread over tasks needs two')
    return t_estimate(means.mean(), means.std(ddof=1)/len(means)**.5, len(means) - 1, level)


class Mixed(NamedTuple):
    "A two-level fit: the estimate, the standard deviation between tasks and that between seeds inside a task."
    estimate: Estimate
    between: float
    within: float


def mixed(values, level=.95):
    "Differences by task, pooled by a two-level model: moments for the two variances, tasks weighted by what they tell."
    groups = [np.asarray(v, float) for v in values.values()]
    sizes, means = np.array([len(g) for g in groups]), np.array([g.mean() for g in groups])
    within = sum(((g - g.mean())**2).sum() for g in groups)/(sizes.sum() - len(groups))
    typical = (sizes.sum() - (sizes**2).sum()/sizes.sum())/(len(groups) - 1)
    spread = (sizes*(means - (sizes*means).sum()/sizes.sum())**2).sum()/(len(groups) - 1)
    between = max(0., (spread - within)/typical)
    weights = 1/(between + within/sizes)
    mean = weights @ means/weights.sum()
    # Hartung and Knapp: the weights are estimated too, so the spread of the means decides
    se = (weights @ (means - mean)**2/((len(means) - 1)*weights.sum()))**.5
    return Mixed(t_estimate(mean, se, len(means) - 1, level), between**.5, within**.5)


def sign_flips(values):
    "p of the pooled mean if each task's difference were as likely to have the other sign: all 2^T sign vectors."
    means = np.array([np.mean(v) for v in values.values()])
    flipped = np.array(list(itertools.product((1, -1), repeat=len(means)))) @ means
    return float((abs(flipped) >= abs(means.sum()) - 1e-12).mean())


def holm(p_values):
    "Holm's adjusted p-values, by name."
    names = sorted(p_values, key=p_values.get)
    steps = [(len(names) - i)*p_values[name] for i, name in enumerate(names)]
    return dict(zip(names, np.minimum(1, np.maximum.accumulate(steps)).tolist()))


def max_t(contrasts, draws=None, level=.95, times=20000, rng=None):
    """Simultaneous intervals of contrasts {name: {task: (S,)}}, means over these very tasks: {name: Estimate}.

    Contrasts share tasks and seeds, so their errors are correlated: the largest of their |t| is drawn from a
    multivariate t with the estimated correlation. `draws` holds resampled test rows by task, arrays (B, K, S).
    """
    rng, names = np.random.default_rng(0) if rng is None else rng, list(contrasts)
    tasks = list(contrasts[names[0]])
    parts = {task: np.array([contrasts[name][task] for name in names]) for task in tasks}
    each = [covariance(parts[task], draws and draws[task]) for task in tasks]
    means, C = np.mean([part.mean(1) for part in parts.values()], axis=0), sum(each)/len(tasks)**2
    se = np.sqrt(np.diag(C))
    # Satterthwaite over tasks, for the contrast that has the least
    df = min((np.diag(C)*len(tasks)**2)**2/sum(np.diag(c)**2/(parts[task].shape[1] - 1)
             for c, task in zip(each, tasks)))
    normal = rng.multivariate_normal(np.zeros(len(names)), C/np.outer(se, se), size=times)
    largest = np.sort(abs(normal).max(1)/np.sqrt(rng.chisquare(df, times)/df))
    reach = np.quantile(largest, level)
    p = [(largest >= t).mean() for t in abs(means)/se]
    return {name: Estimate(float(m), float(m - reach*s), float(m + reach*s), float(q), float(s), float(df))
            for name, m, s, q in zip(names, means, se, p)}


def power(difference, sd, n, alpha=.05):
    "Probability that a two-sided t-test of n independent differences finds a true one."
    shift, edge = difference/sd*n**.5, stats.t.ppf(1 - alpha/2, n - 1)
    return float(stats.nct.sf(edge, n - 1, shift) + stats.nct.cdf(-edge, n - 1, shift))


def needed(difference, sd, wanted=.8, alpha=.05, most=10000):
    "The smallest number of independent differences with that power; None above `most`."
    return next((n for n in range(2, most + 1) if power(difference, sd, n, alpha) >= wanted), None)


def components(values):
    "Standard deviations of differences by task: between seeds of a task, between tasks, each with its 95% interval."
    fit, groups = mixed(values), [np.asarray(v) for v in values.values()]
    df = sum(map(len, groups)) - len(groups)
    ends = fit.within*np.sqrt(df/stats.chi2.ppf([.975, .025], df))
    spread, few = np.std([g.mean() for g in groups], ddof=1), len(groups) - 1
    noise = fit.within**2/np.mean([len(g) for g in groups])
    tasks = np.sqrt(np.maximum(0, few*spread**2/stats.chi2.ppf([.975, .025], few) - noise))
    return {'seeds': (fit.within, *map(float, ends)), 'tasks': (fit.between, *map(float, tasks))}


# A gold part has tens of thousands of texts, nearly all of ASCII: a table is a quarter of the work.
_TO_SPACES = {i: ' ' for i in range(128) if not re.match(r'\w', chr(i))}


def plain(text):
    "A text without case, punctuation and spaces that repeat: equal for copies that differ in these only."
    if text.isascii(): return ' '.join(text.lower().translate(_TO_SPACES).split())
    return ' '.join(re.findall(r'\w+', unicodedata.normalize('NFKC', text).casefold()))


def place(text):
    "A number in [0, 1) that depends on the plain text alone."
    return int.from_bytes(hashlib.sha256(plain(text).encode()).digest()[:8], 'big')/2**64


class Split(NamedTuple):
    "Rows for choices, rows for scores, and how many were left out because a teacher or a student may see them."
    dev: Rows
    test: Rows
    left_out: int


def divide(rows, used=(), barred=(), share=.2):
    "Divide rows by hash: `share` of them, and all of `used`, to develop on; of the rest those that are not barred."
    used, barred, first = set(map(plain, used)), set(map(plain, barred)), {}
    for i, text in enumerate(rows.texts): first.setdefault(plain(text), i)
    to_develop = {text for text in first if text in used or place(text) < share}
    dev, rest = [first[text] for text in to_develop], [text for text in first if text not in to_develop]
    test = [first[text] for text in rest if text not in barred]
    return check_disjoint(Split(rows.take(sorted(dev)), rows.take(sorted(test)), len(rest) - len(test)))


def check_disjoint(split):
    "The split, if no text stands on both sides; else ValueError."
    both = set(map(plain, split.dev.texts)) & set(map(plain, split.test.texts))
    if both: raise ValueError(f'{len(both)} texts are among the development rows and the test rows: divide them anew')
    return split


# SST-2's own train part is made of phrases, its test part of sentences: what recipes may show is drawn from the sentences.
GOLD = {'ag_news': 'agnews', 'sst2': 'sst2', 'humor': 'humor', 'imdb': 'imdb', 'amazon_category': 'amazon14'}
TRAIN = {'sst2': 'train_sentences.parquet'}


def gold_folder(name):
    "Where the gold rows of a task are."
    return Path(os.environ['SYNTHLAB_GOLD'])/GOLD[name]


def train_file(name):
    "The train part of a task: a file."
    return gold_folder(name)/TRAIN.get(name, 'train.parquet')


def gold_task(name):
    "The task with the labels that its gold data has: Amazon's has 13 of 23."
    task = load_task(name)
    found = {row['label'] for row in load_gold(None, task, part='test')}
    return task.model_copy(update={'labels': tuple(label for label in task.labels if label.name in found)})


def split_rows(name, share=.2):
    """Development and test rows of a task of the bake-off, from SYNTHLAB_GOLD.

    The 1,000 rows that the earlier bake-off scored on are development rows. SST-2's test part has 821 others; its
    validation part is added to it. No test row may be a row of the train part that recipes show.
    """
    folder, task = gold_folder(name), gold_task(name)
    test, train = gold_parts(task, folder, folder/TRAIN[name] if name in TRAIN else None)
    used, rows = split_gold(test, train).test, Rows.of(test)
    if (more := folder/'validation.parquet').exists(): rows = rows + Rows.of(load_gold(more, task, part='train'))
    return divide(rows, used.texts, train['text'], share)


def fresh_test(name):
    "Test rows of a task that no bake-off has scored on before, whose development rows come from the train part."
    return split_rows(name, 0.).test.records()


def write_test(name, work):
    "Write the fresh test rows of a task beside its runs, and return the file."
    path = Path(work)/f'{name}.test.parquet'
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(fresh_test(name)).to_parquet(path)
    return path


def weights_hash(folder):
    "Fingerprint of a model's weights alone, 12 digits; the revision of a teacher covers every file beside them too."
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob('*.safetensors')): digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def describe_weights(teacher):
    "Name, revision and weights of a teacher; weights that are not files here are unknown."
    identity = teacher.identity
    try: folder = Path(model_path(identity['name']))
    except ValueError: folder = Path('a server')
    weights = weights_hash(folder) if folder.is_dir() else 'unknown'
    return {'name': identity['name'], 'revision': identity.get('revision') or 'unknown', 'weights': weights}


def code_version():
    "The package's version and the commit of this checkout, marked if the package was changed since."
    def git(*words): return subprocess.run(['git', *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    try: commit, changed = git('rev-parse', '--short=7', 'HEAD'), git('status', '--porcelain', '--', 'synthlab')
    except OSError: commit, changed = '', ''
    return {'version': synthlab.__version__, 'commit': (commit or 'unknown') + ('+changes' if changed else '')}


# How a task's texts are drawn unless a study says otherwise.
USUAL = {'temperature': .95, 'top_p': .9, 'max_new_tokens': "the task's"}
STAMP = ('teacher', 'code', 'sampling', 'n', 'seeds', 'date')


def stamp(teacher, sampling=None, n=None, seeds=None, date=None):
    "What a result file says of itself, under its key `stamp`; no teacher where only real rows were used."
    if dataclasses.is_dataclass(sampling): sampling = dataclasses.asdict(sampling)
    return {'teacher': teacher and describe_weights(teacher), 'code': code_version(), 'sampling': sampling, 'n': n,
            'seeds': list(range(seeds)) if isinstance(seeds, int) else seeds and list(seeds),
            'date': date or datetime.date.today().isoformat()}


def check_stamp(found, what):
    "The stamp of a result, if it is whole; else ValueError."
    if missing := [key for key in STAMP if key not in found.get('stamp', {})]:
        raise ValueError(f'{what} has no {", ".join(missing)} in its stamp: write stamp(teacher, ...) into it')
    return found['stamp']


def read_study(path):
    "A result file: its stamp, and the rest."
    found = json.loads(Path(path).read_text(encoding='utf-8'))
    return check_stamp(found, Path(path).name), {key: value for key, value in found.items() if key != 'stamp'}
