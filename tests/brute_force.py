"The decode loop written from its definition: no cache, one row at a time, Python loops, float64."
import math

import numpy as np


def live_weight(weights, labels, alive, m, n):
    "Weight of row n in row m's contrast: lost weight goes to the living of its own share, else to the other share."
    rows = [k for k in range(len(weights)) if k != m and weights[m][k]]
    near = {k: labels is None or labels[k] == labels[m] for k in rows}
    total = 0.
    for share in (True, False):
        of_share = [k for k in rows if near[k] == share]
        living = [k for k in of_share if alive[k]] or [k for k in rows if alive[k]]
        if n in living: total += sum(weights[m][k] for k in of_share) * weights[m][n] / sum(weights[m][k] for k in living)
    return total


def guided_scores(plan, z, alive, last, m):
    "Row m's guided scores over the vocabulary, masked where the unguided ones are implausible."
    weights = plan.weights.double().cpu().numpy()
    total = np.zeros(len(z[m]))
    for n in range(len(weights)):
        if n == m: w, scores = weights[m][m], z[m]
        elif alive[n]: w, scores = (live_weight(weights, plan.labels, alive, m, n) if plan.eos == 'renormalise' else weights[m][n]), z[n]
        else: w, scores = (weights[m][n] if plan.eos == 'freeze' else 0.), last[n]
        if w: total += w * scores
    if plan.alpha: total[z[m] < z[m].max() + math.log(plan.alpha)] = -np.inf
    return total


def gumbel(u, token):
    "A number of the token's own, hashed from the row's number in Python's integers."
    x = (int(u * 2**32) * 0x9E3779B1 + token) % 2**32
    x = ((x ^ x >> 16) * 0x85EBCA6B) % 2**32
    x = ((x ^ x >> 13) * 0xC2B2AE35) % 2**32
    return -math.log(-math.log(((x ^ x >> 16) + .5) / 2**32))


def draw(scores, u, sampling):
    "Temperature, top-k, top-p by a full sort; from what is left by Gumbel-max, from everything by the cumulated probability."
    if sampling.temperature == 0: return int(scores.argmax())
    p = np.exp((scores - scores.max()) / sampling.temperature); p /= p.sum()
    order, kept, reached = np.argsort(-p, kind='stable'), [], 0.
    if sampling.top_k: order = order[:sampling.top_k]; p = p / p[order].sum()
    for v in order:
        if sampling.top_p < 1 and kept and reached >= sampling.top_p: break
        kept.append(v); reached += p[v]
    if sampling.top_p < 1 or sampling.top_k: return int(max((v for v in kept if p[v] > 0), key=lambda v: math.log(p[v]) + gumbel(u, int(v))))
    target, cumulated = u * reached, 0.
    for v in sorted(kept):
        cumulated += p[v]
        if cumulated > target: return int(v)
    return int(v)


def decode(teacher, plan, sampling, uniforms):
    "Tokens of every generating row, and the unguided and guided scores of every step."
    rows = len(plan.prompts)
    sequences = [list(p) for p in (teacher.encode(plan.prompts) if isinstance(plan.prompts[0], str) else plan.prompts)]
    limits = dict(zip(plan.generating, plan.limits or [sampling.max_new_tokens] * rows))
    drawn, done, last, trace = {m: [] for m in plan.generating}, set(), {}, []
    stops = set(teacher.stop_ids.tolist())
    for step in range(sampling.max_new_tokens):
        alive = [plan.follow[n] not in done for n in range(rows)]
        if not any(alive): break
        z = {n: teacher.next_logits([sequences[n]])[0].double().cpu().numpy() for n in range(rows) if alive[n]}
        guided = {m: guided_scores(plan, z, alive, last, m) for m in plan.generating if alive[m]}
        trace.append((z, guided))
        tokens = {m: draw(guided[m], float(uniforms[step, plan.generating.index(m)]), sampling) for m in guided}
        for n in range(rows):
            if alive[n]: sequences[n].append(tokens[plan.follow[n]])
        for m, token in tokens.items():
            drawn[m].append(token)
            if token in stops or len(drawn[m]) == limits[m]: done.add(m)
        last.update(z)
    return drawn, trace
