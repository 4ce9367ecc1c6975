"""How long does a selection take, beside scikit-learn's refit at every round and beside the memory that it has to read?

    python tests/benchmarks/bench_selection.py [--rows 100000] [--dim 384] [--picks 600] [--repeats 2] [--rounds 10,100,300,600] [--sizes 10000,100000] [--json FILE]

First `UncertaintyTracker`, fit and picks, on random unit vectors around some directions, in float32. Beside it:

- the bare products: what a step by itself must read, N x D embeddings and t rows of the factor, by BLAS calls on arrays of the same size and
  nothing else. Looking ahead reads less than that; picks with a neighbour each, as many observations in all, are made one by one;
- scikit-learn: `GaussianProcessRegressor.fit` on what was observed and `predict` with standard deviations for all rows, which is a round
  of the released code less its optimiser. A few rounds are run; the sum over all is EXTRAPOLATED, by straight lines between these.

Times are processor time, which neighbours on the machine disturb less; with several threads it is their sum (OMP_NUM_THREADS=1 gives the
clearest numbers). Variances are compared with a full solve. The run fails if they differ by more than 1e-5, if scikit-learn is not 300
times slower, or if the bare products take less than half of the time. Then the time at growing numbers of rows; a million rows
(--sizes 100000,1000000) take 4 GB and some minutes, and the memory is stated before each size is begun.
"""
import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from sklearn.metrics.pairwise import rbf_kernel
from synthlab.select.selectors import select_farthest
from synthlab.select.uncertainty import UncertaintyTracker, memory_needed
from synthlab.system import available_memory

LEAST_RATIO, MOST_TRAFFIC, MOST_ERROR, NOISE = 300, 2.0, 1e-5, 1e-4


def unit_vectors(n_rows, dim, kinds=50, spread=.5, seed=0):
    "Unit vectors around some directions, made block by block."
    rng = np.random.default_rng(seed)
    directions, X = rng.normal(size=(kinds, dim)).astype(np.float32)/math.sqrt(dim), np.empty((n_rows, dim), np.float32)
    for start in range(0, n_rows, 50_000):
        part = X[start:start + 50_000]
        part[:] = directions[rng.integers(kinds, size=len(part))] + np.float32(spread/math.sqrt(dim))*rng.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return X


def seconds(run):
    "Processor time of a call, and what it returned."
    start = time.process_time()
    value = run()
    return time.process_time() - start, value


def bare_products(X, picks):
    "The products of the steps, and nothing else."
    V = np.full((picks, len(X)), 1e-3, np.float32)
    def run():
        for t in range(picks):
            X @ X[t]
            if t: V[:t].T @ V[:t, t]
    return run


def posterior_variance(X, observed, length_scale, noise):
    "Variance at all rows by a full solve in float64."
    X, observed = X.astype(np.float64), list(observed)
    K = rbf_kernel(X, X[observed], gamma=.5/length_scale**2)
    return 1 - np.einsum('nk,kn->n', K, np.linalg.solve(K[observed] + noise*np.eye(len(observed)), K.T))


def ours(X, picks):
    tracker = UncertaintyTracker(noise=NOISE)
    fit, _ = seconds(lambda: tracker.fit(X))
    return fit, seconds(lambda: tracker.select(picks))[0], tracker


def one_size(n_rows, dim, picks, repeats):
    "Seconds of our steps and of the bare products, taken in turn."
    X = unit_vectors(n_rows, dim)
    fits, steps, bare = [], [], []
    for _ in range(repeats):
        fit, step, tracker = ours(X, picks)
        fits.append(fit); steps.append(step)
        S, length_scale, variance = tracker.observed_, tracker.length_scale_, tracker.variance_
        del tracker                                                                 # its memory
        products = bare_products(X, picks)
        bare.append(seconds(products)[0])
        del products
    shown = np.concatenate([S, np.random.default_rng(0).choice(n_rows, min(n_rows, 5000), replace=False)])
    error = np.abs(posterior_variance(X[shown], range(picks), length_scale, NOISE) - variance[shown]).max()
    read = 4*n_rows*(dim*picks + picks*(picks - 1)/2)
    return X, {'rows': n_rows, 'fit': min(fits), 'select': min(steps), 'bare': min(bare), 'ratio': min(steps)/min(bare), 'gb_per_s': read/min(bare)/1e9, 'error': float(error),
               'memory_gb': memory_needed(n_rows, picks, dim)/1e9}, (S, length_scale)


def scikit_learn(X, S, length_scale, rounds, picks):
    "Seconds of some rounds, and of all by straight lines between them."
    def one(n):
        observed = S[:n]
        model = GaussianProcessRegressor(RBF(length_scale), alpha=NOISE, optimizer=None)
        return seconds(lambda: model.fit(X[observed], np.zeros(n)).predict(X, return_std=True))[0]
    measured = {n: one(n) for n in rounds if n <= picks}
    return measured, float(np.interp(np.arange(1, picks + 1), list(measured), list(measured.values())).sum())


def load(): return ' '.join(f'{x:.1f}' for x in os.getloadavg()) if hasattr(os, 'getloadavg') else 'unknown'


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--rows', type=int, default=100_000); a.add_argument('--dim', type=int, default=384); a.add_argument('--picks', type=int, default=600)
    a.add_argument('--repeats', type=int, default=2); a.add_argument('--rounds', default='10,100,300,600', help='rounds of scikit-learn to run; empty for none')
    a.add_argument('--sizes', default='10000,100000', help='numbers of rows for the growth; empty for none'); a.add_argument('--json', type=Path)
    o = a.parse_args()
    rounds, sizes = ([int(x) for x in text.split(',') if x] for text in (o.rounds, o.sizes))
    print(f'{o.picks} picks from {o.rows:,} x {o.dim}, float32, {os.cpu_count()} processors, threads {os.environ.get("OMP_NUM_THREADS", "as the library likes")}; load {load()}', flush=True)
    X, table, (S, length_scale) = one_size(o.rows, o.dim, o.picks, o.repeats)
    print(f'processor time: fit {table["fit"]:.2f} s, picks {table["select"]:.2f} s; bare products {table["bare"]:.2f} s ({table["gb_per_s"]:.1f} GB/s read): {table["ratio"]:.2f} times the bare products '
          f'(at most {MOST_TRAFFIC:g}); largest error {table["error"]:.0e}; {table["memory_gb"]:.2f} GB', flush=True)
    farthest, pairs = seconds(lambda: select_farthest(X, o.picks))[0], UncertaintyTracker(noise=NOISE).fit(X)
    in_pairs, _ = seconds(lambda: pairs.select(o.picks//2, cluster_size=2))
    print(f'{o.picks//2} picks, each with a neighbour: {in_pairs:.2f} s, {in_pairs/table["bare"]:.2f} times the bare products of {o.picks} observations')
    print(f'{o.picks} picks by farthest points, which need no factor: {farthest:.2f} s', flush=True)
    result, pairs = {'main': table, 'farthest': farthest, 'in_pairs': in_pairs}, None
    if rounds:
        measured, total = scikit_learn(X, S, length_scale, rounds, o.picks)
        ratio = total/(table['fit'] + table['select'])
        print('scikit-learn, seconds of a round: ' + ', '.join(f'{n} observed {s:.2f}' for n, s in measured.items()))
        print(f'all {o.picks} rounds: {total:,.0f} s EXTRAPOLATED from {len(measured)} of them, {ratio:,.0f} times ours, fit included (at least {LEAST_RATIO})', flush=True)
        result['scikit_learn'] = {'rounds': measured, 'extrapolated': total, 'ratio': ratio}
    del X
    if sizes: print(f'\n{"rows":>10} {"GB needed":>10} {"fit s":>8} {"picks s":>8} {"bare s":>8} {"ratio":>6} {"GB/s":>6} {"error":>8}')
    for n_rows in sizes:
        needed = 2*memory_needed(n_rows, o.picks, o.dim)                             # the rows and those of the bare products too
        print(f'{n_rows:10,} {memory_needed(n_rows, o.picks, o.dim)/1e9:10.2f}', end=' ', flush=True)
        if needed > available_memory(): print(f'left out: {needed/1e9:.1f} GB with the comparison, {available_memory()/1e9:.1f} GB available'); continue
        row = table if n_rows == o.rows else one_size(n_rows, o.dim, o.picks, 1)[1]
        print(f'{row["fit"]:8.2f} {row["select"]:8.2f} {row["bare"]:8.2f} {row["ratio"]:6.2f} {row["gb_per_s"]:6.1f} {row["error"]:8.0e}', flush=True)
        result.setdefault('sizes', []).append(row)
    print(f'load {load()}', flush=True)
    if o.json: o.json.write_text(json.dumps(result, indent=1))
    faults = [f'variances are off by {table["error"]:.0e}'] if table['error'] > MOST_ERROR else []
    faults += [f'{table["ratio"]:.2f} times the bare products'] if table['ratio'] > MOST_TRAFFIC else []
    faults += [f'only {ratio:.0f} times as fast as scikit-learn'] if rounds and (o.rows, o.picks) == (100_000, 600) and ratio < LEAST_RATIO else []
    sys.exit('; '.join(faults) or 0)


if __name__ == '__main__': main()
