"""How long does it take to learn the weights of synthetic texts, and how does it grow?

    python tests/benchmarks/bench_alignment.py [--rows 50000] [--features 2048] [--dimensions 384] [--growth 10000,100000] [--growth-features 2048] [--storage auto] [--json FILE]

First one fit, with its time divided among the features of the real side, those of the synthetic side and the solver; the steps it
took and the gap it reached; and the ratio of a step's processor time to that of its two matrix-vector products alone, with the same
features in the same run. Then the same objective by scipy's SLSQP at a size that it can take. Then growth with the number of
rows, and the exponent of the last step of the growth (1: linear). Before each fit the memory of the features is printed, and one that does not
fit into free memory is left out. `--growth 10000,100000,1000000 --growth-features 512` takes some minutes.

Vectors are a made mixture of 40 clusters on the unit sphere, in other proportions on the synthetic side, with a tenth of junk in
one place, so that the numbers do not depend on a download. The load of the machine is printed, since other processes slow the products down; the number of threads is that
of numpy's BLAS (OPENBLAS_NUM_THREADS).
"""
import argparse
import json
import math
import os
import statistics
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from synthlab.align.mmd import draw_features, mean_features
from synthlab.align.solver import fista
from synthlab.align.weights import BlockProblem, MMDWeights, choose_storage

CLUSTERS, JUNK = 40, .1


def mixture(n, dimensions, seed, shares, junk=0.):
    "n unit rows, float32, made block by block: clusters in these proportions, each with a shape of 20 dimensions, and junk first."
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(0)
    centres, shape = fixed.normal(size=(CLUSTERS + 1, dimensions)), fixed.normal(size=(20, dimensions))/math.sqrt(20)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    cluster = np.r_[np.full(int(junk*n), CLUSTERS), rng.choice(CLUSTERS, n - int(junk*n), p=shares)]
    rows = np.empty((n, dimensions), np.float32)
    for start in range(0, n, 16_384):
        own = cluster[start:start + 16_384]
        noise = rng.standard_normal((len(own), 20), np.float32) @ shape.astype(np.float32) + .7*rng.standard_normal((len(own), dimensions), np.float32)
        rows[start:start + len(own)] = centres[own] + .6*noise/math.sqrt(dimensions)
        rows[start:start + len(own)] /= np.linalg.norm(rows[start:start + len(own)], axis=1, keepdims=True)
    return rows


def heaps(n_real, n_synthetic, dimensions):
    shares = np.random.default_rng(1)
    real, synthetic = shares.dirichlet(np.ones(CLUSTERS)), shares.dirichlet(2*np.ones(CLUSTERS))
    return mixture(n_real, dimensions, 2, real), mixture(n_synthetic, dimensions, 3, synthetic, JUNK)


def processor_seconds(run):
    "Processor time of a call, which neighbours on the machine disturb less."
    start = time.process_time()
    run()
    return time.process_time() - start


def step_and_bare_step(problem, ridge=1e-3, steps=15, repeats=5):
    "Processor time of a step of the solver, and of its two matrix-vector products alone, in float32 by numpy where features are kept so."
    w, r = np.random.default_rng(0).random(problem.n).astype(np.float32), np.random.default_rng(1).random(len(problem.mu)).astype(np.float32)
    def bare():
        if problem.kept is not None: w @ problem.kept; problem.kept @ r
        else: problem.residual(w.astype(float)); problem.pull(r.astype(float))
    def solve(n):
        with warnings.catch_warnings(action='ignore'): fista(problem, ridge=ridge, tol=1e-15, max_iter=n)
    few, many = processor_seconds(lambda: solve(1)), processor_seconds(lambda: solve(1 + steps))
    return (many - few)/steps, statistics.median(processor_seconds(bare) for _ in range(repeats))


def one_fit(rows, n_features, dimensions, storage, tol, max_iter, real_rows=20_000):
    way = choose_storage(rows, n_features, storage)
    needed, free = 4*rows*n_features if way == 'float32' else 0, os.sysconf('SC_AVPHYS_PAGES')*os.sysconf('SC_PAGE_SIZE')
    print(f'{rows:,} rows, {n_features} features, {way}: features take {needed/2**30:.2f} GiB, vectors {4*rows*dimensions/2**30:.2f} GiB, '
          f'free are {free/2**30:.1f} GiB', flush=True)
    if needed + 8*rows*dimensions > .8*free: print('  left out: not enough memory'); return None
    real, synthetic = heaps(real_rows, rows, dimensions)
    start, fit = time.perf_counter(), MMDWeights(n_features=n_features, storage=storage, tol=tol, max_iter=max_iter)
    with warnings.catch_warnings(action='ignore'): fit.fit(real, synthetic)
    seconds = time.perf_counter() - start
    found = {'rows': rows, 'features': n_features, 'storage': way, 'seconds': seconds, **fit.seconds_, 'steps': fit.n_iter_, 'gap': fit.gap_,
             'mmd2 of equal weights': fit.mmd2_uniform_, 'mmd2': fit.mmd2_, 'effective size': fit.ess_,
             'junk': float(fit.weights_[:int(JUNK*rows)].sum()), 'converged': fit.converged_}
    problem = BlockProblem(synthetic, fit.features_, mean_features(real, fit.features_), way)
    found['step'], found['bare step'] = step_and_bare_step(problem)
    found['ratio'] = found['step']/found['bare step']
    return found


def told(found):
    rest = found['seconds'] - found['real'] - found['synthetic'] - found['solver']
    print(f"  {found['seconds']:.1f} s: bandwidth and checks {rest:.1f}, features of 20,000 real rows {found['real']:.1f}, of the synthetic {found['synthetic']:.1f}, "
          f"solver {found['solver']:.1f}\n  {found['steps']} steps{'' if found['converged'] else ' (not converged)'}, "
          f"{1e3*found['solver']/found['steps']:.1f} ms each, the estimate of the step length included\n"
          f"  processor time of a step {1e3*found['step']:.1f} ms, of two bare products {1e3*found['bare step']:.1f} ms: ratio {found['ratio']:.2f}\n"
          f"  MMD² {found['mmd2 of equal weights']:.3g} -> {found['mmd2']:.3g}, gap {found['gap']:.2g}; "
          f"worth {found['effective size']:,.0f} rows; junk {JUNK:.0%} -> {found['junk']:.2%}")


def against_slsqp(rows, n_features, dimensions, ridge=1e-3):
    real, synthetic = heaps(2000, rows, dimensions)
    psi = draw_features('rff', dimensions, n_features, 1.4, np.random.default_rng(0))
    Phi, mu = psi(synthetic).astype(np.float64), mean_features(real, psi)
    def F(w): return float(((w @ Phi - mu)**2).sum() + ridge*((w - 1/rows)**2).sum())
    def gradient(w): return 2*Phi @ (w @ Phi - mu) + 2*ridge*(w - 1/rows)
    start = time.perf_counter()
    peer = minimize(F, np.full(rows, 1/rows), jac=gradient, method='SLSQP', bounds=[(0, 1)]*rows, options={'ftol': 1e-12, 'maxiter': 500},
                    constraints={'type': 'eq', 'fun': lambda w: w.sum() - 1, 'jac': np.ones_like})
    slow, start = time.perf_counter() - start, time.perf_counter()
    own = fista(BlockProblem(synthetic, psi, mu), ridge=ridge, tol=1e-7)
    return {'rows': rows, 'features': n_features, 'slsqp': slow, 'synthlab': time.perf_counter() - start, 'slsqp value': peer.fun, 'value': F(own.weights), 'gap': own.gap}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rows', type=int, default=50_000)
    parser.add_argument('--features', type=int, default=2048)
    parser.add_argument('--dimensions', type=int, default=384)
    parser.add_argument('--tol', type=float, default=1e-3, help='gap at which to stop, relative to equal weights')
    parser.add_argument('--max-iter', type=int, default=2000)
    parser.add_argument('--storage', default='auto', help='float32, recompute or auto')
    parser.add_argument('--peer', type=int, default=300, help='rows for SLSQP; 0 for none')
    parser.add_argument('--growth', default='5000,20000', help='row counts, separated by commas; empty for none')
    parser.add_argument('--growth-features', type=int, default=2048)
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    print(f'load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, OPENBLAS_NUM_THREADS={os.environ.get("OPENBLAS_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "not set"))}')
    results = {'fit': one_fit(args.rows, args.features, args.dimensions, args.storage, args.tol, args.max_iter) if args.rows else None, 'load': os.getloadavg()}
    if results['fit']: told(results['fit'])
    if args.peer:
        peer = results['peer'] = against_slsqp(args.peer, 512, args.dimensions)
        print(f"{peer['rows']} rows, {peer['features']} features: SLSQP {peer['slsqp']:.2f} s, FISTA {peer['synthlab']:.3f} s, ratio {peer['slsqp']/peer['synthlab']:.0f}; "
              f"objective {peer['slsqp value']:.8f} and {peer['value']:.8f}, gap {peer['gap']:.1g}")
    fits = (one_fit(n, args.growth_features, args.dimensions, args.storage, args.tol, args.max_iter) for n in map(int, filter(None, args.growth.split(','))))
    growth = results['growth'] = [found for found in fits if found]
    for found in growth:
        print(f"{found['rows']:>10,} rows: {found['seconds']:7.1f} s, solver {found['solver']:7.1f} s, {found['steps']:4} steps of {1e3*found['solver']/found['steps']:6.1f} ms, "
              f"ratio {found['ratio']:.2f}, junk {found['junk']:.2%}")
    if len(growth) > 1:
        a, b = growth[-2:]
        def exponent(x, y): return math.log(y/x)/math.log(b['rows']/a['rows'])
        print(f"exponent of a step's processor time: {exponent(a['step'], b['step']):.2f}; of the whole: {exponent(a['seconds'], b['seconds']):.2f}")
    print(f'load at the end {os.getloadavg()[0]:.1f}')
    if args.json: args.json.write_text(json.dumps(results, indent=1))


if __name__ == '__main__': main()
