"""Draw the three methods: one step of CorrSynth, SynAlign's way from examples to weighted rows, TarGEN's four steps.

    python nbs/images/drawings.py

writes corrsynth_step.png, synalign_way.png and targen_steps.png beside this file. The numbers in the pictures are
computed: the guided distributions by the formula, the picks by the tracker, the weights by the alignment.
"""
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

HERE = Path(__file__).parent
INK, SOFT, PAPER = '#22303c', '#7b8794', '#f4f6f8'
COLOURS = ['#3a6ea5', '#d1732b', '#4c9a5f', '#8a5aa8']
plt.rcParams |= {'font.size': 10, 'font.family': 'DejaVu Sans', 'text.color': INK, 'axes.edgecolor': SOFT}


def canvas(width, height):
    "An empty page in inches, with (0, 0) at the lower left."
    figure = plt.figure(figsize=(width, height))
    page = figure.add_axes([0, 0, 1, 1], xlim=(0, width), ylim=(0, height))
    page.axis('off')
    return figure, page


def box(page, x, y, width, height, text='', colour=SOFT, fill=PAPER, **options):
    "A rounded box with text in it."
    page.add_patch(FancyBboxPatch((x, y), width, height, boxstyle='round,pad=0,rounding_size=.08', fc=fill, ec=colour, lw=1.2))
    settings = dict(ha='left', va='center', fontsize=9, linespacing=1.35) | options
    if text: page.text(x + (.12 if settings['ha'] == 'left' else width/2), y + height/2, text, **settings)


def arrow(page, start, end, colour=SOFT, bend=0., width=1.4, **options):
    "An arrow from one place to another."
    page.add_patch(FancyArrowPatch(start, end, arrowstyle='-|>', mutation_scale=12, lw=width, color=colour,
                                   connectionstyle=f'arc3,rad={bend}', shrinkA=2, shrinkB=2, **options))


def bars(figure, place, values, names, colour, chosen=None):
    "A small bar chart of a distribution on the page; the chosen token is dark."
    width, height = figure.get_size_inches()
    x, y, w, h = place
    axes = figure.add_axes([x/width, y/height, w/width, h/height])
    axes.bar(range(len(values)), values, color=[colour if n == chosen or chosen is None else f'{colour}66' for n in range(len(values))])
    axes.set(xticks=range(len(names)), ylim=(0, 1), yticks=[])
    axes.set_xticklabels(names, fontsize=8)
    axes.tick_params(length=0, pad=2)
    for side in ('top', 'left', 'right'): axes.spines[side].set_visible(False)
    axes.patch.set_alpha(0)
    return axes


def corrsynth_step():
    "Three texts of a group, their distributions, the weights, and what is drawn."
    prompts = ['Write about sports.', 'Write about business.', 'Write about science.']
    so_far = ['The team', 'The shares', 'The probe']
    tokens = ['won', 'fell', 'rose', 'said', 'found']
    P = np.array([[.34, .10, .08, .40, .08], [.06, .26, .24, .38, .06], [.05, .08, .11, .40, .36]])
    weights = np.array([[1, -.25, -.25], [-.25, 1, -.25], [-.25, -.25, 1]])
    allowed = P >= .1*P.max(1, keepdims=True)
    guided = np.where(allowed, np.exp(weights @ np.log(P)), 0)
    guided /= guided.sum(1, keepdims=True)
    figure, page = canvas(11, 4.6)
    heads = [(1.35, 'three texts of a group'), (4.05, 'next token, each on its own'), (6.65, 'weights Γ'), (9.05, 'next token, with contrast')]
    for x, text in heads: page.text(x, 4.3, text, ha='center', fontsize=10.5, weight='bold')
    for m, (prompt, text) in enumerate(zip(prompts, so_far)):
        y = 3.0 - 1.25*m
        best = int(guided[m].argmax())
        box(page, .15, y, 2.4, .95, colour=COLOURS[m])
        page.text(.3, y + .64, prompt, fontsize=8.8, color=SOFT, va='center')
        page.text(.3, y + .3, f'{text} …', fontsize=10.5, weight='bold', color=COLOURS[m], va='center')
        bars(figure, (3.0, y + .1, 2.1, .8), P[m], tokens, COLOURS[m])
        bars(figure, (8.0, y + .1, 2.1, .8), guided[m], tokens, COLOURS[m], best)
        page.text(10.2, y + .55, f'“{tokens[best]}”', fontsize=11, weight='bold', color=COLOURS[m])
        arrow(page, (2.6, y + .48), (2.95, y + .48), COLOURS[m])
        arrow(page, (5.15, y + .48), (5.75, y + .48), COLOURS[m])
        arrow(page, (7.55, y + .48), (7.95, y + .48), COLOURS[m])
        for n in range(3):
            shade = '#2f7d4f' if n == m else '#c0523f'
            page.add_patch(plt.Rectangle((5.85 + .56*n, y + .2), .52, .56, fc=shade, alpha=.85 if n == m else .45, ec='white'))
            page.text(6.11 + .56*n, y + .48, f'{weights[m, n]:g}'.replace('-', '−'), ha='center', va='center', fontsize=9, color='white', weight='bold')
    page.text(5.5, .22, r'$\log \tilde{p}_m = \gamma \log p_m - \sum_{n \neq m} \gamma_{mn} \log p_n$'
              '      words that all texts find likely (“said”) lose, words that fit one text win; each text goes on with its own word',
              ha='center', fontsize=9.5)
    return figure


def synalign_way():
    "Real texts in a plane, picks in their order, attributes, new texts, and their weights."
    from synthlab import MMDWeights, UncertaintyTracker
    rng = np.random.default_rng(3)
    centres, sizes = np.array([[.0, .0], [2.2, .7], [.9, 2.1]]), [60, 30, 14]
    real = np.concatenate([rng.normal(c, .42, (n, 2)) for c, n in zip(centres, sizes)])
    # Sentence embeddings have length 1: the plane is a patch of a sphere.
    def lifted(points): return (unit := np.c_[.35*(points - 1), np.ones(len(points))])/np.linalg.norm(unit, axis=1, keepdims=True)
    tracker = UncertaintyTracker(length_scale=.25).fit(lifted(real))
    picks = np.ravel(tracker.select(9))
    new = np.concatenate([rng.normal(real[i], .38, (6, 2)) for i in picks])
    fitted = MMDWeights(features='kernel', bandwidth=.2, ridge=1e-3).fit(lifted(real), lifted(new))
    figure, page = canvas(11, 3.9)
    heads = [(1.3, '1  select'), (4.0, '2  name attributes'), (6.7, '3  write from them'), (9.6, '4  weigh')]
    for x, text in heads: page.text(x, 3.6, text, ha='center', fontsize=10.5, weight='bold')
    def plane(x, label):
        axes = figure.add_axes([x/11, .75/3.9, 2.3/11, 2.55/3.9], xticks=[], yticks=[], xlim=(-1.6, 3.6), ylim=(-1.5, 3.4))
        page.text(x + 1.15, .45, label, ha='center', fontsize=8.8, color=SOFT)
        return axes
    axes = plane(.15, 'a Gaussian process picks the real\ntext that it knows least about')
    axes.scatter(*real.T, s=9, color='#b8c2cc')
    axes.scatter(*real[picks].T, s=70, color=COLOURS[0])
    for order, place in enumerate(real[picks], 1): axes.text(*place, str(order), color='white', ha='center', va='center', fontsize=7.5, weight='bold')
    box(page, 2.85, 1.0, 2.3, 2.25, 'topic:  local transport\ntone:  matter-of-fact\nlength:  two sentences\nstyle:  short report', COLOURS[0], fontsize=9.3)
    page.text(4.0, .45, 'the model describes each pick', ha='center', fontsize=8.8, color=SOFT)
    for n, text in enumerate(['Trams stop at midnight\nfrom Monday on.', 'A bridge repair closes\nthe north line.', 'Fares stay as they are,\nthe council said.']):
        box(page, 5.6, 2.55 - .78*n, 2.2, .66, text, COLOURS[1], fontsize=8.6)
    page.text(6.7, .45, 'several texts from one record', ha='center', fontsize=8.8, color=SOFT)
    axes = plane(8.4, 'weights make all texts together\nlike the real ones (MMD)')
    axes.scatter(*real.T, s=9, color='#b8c2cc')
    axes.scatter(*new.T, s=8 + 75*fitted.weights_/fitted.weights_.max(), color=COLOURS[1], alpha=.75, lw=0)
    for start, end in ((2.5, 2.82), (5.2, 5.55), (7.85, 8.35)): arrow(page, (start, 2.05), (end, 2.05), INK)
    return figure


def targen_steps():
    "Contexts, seeds, rows by the constraint of a label, and a second look at the label."
    figure, page = canvas(11, 3.9)
    heads = [(1.2, '1  contexts'), (3.85, '2  seeds'), (6.75, '3  rows under a label'), (9.75, '4  self-correction')]
    for x, text in heads: page.text(x, 3.6, text, ha='center', fontsize=10.5, weight='bold')
    for n, text in enumerate(['a harbour town', 'a chemistry lab', 'a county court']):
        box(page, .2, 2.65 - .85*n, 2.0, .62, text, SOFT, ha='center', color=INK if n == 0 else SOFT)
    box(page, 2.75, 2.0, 2.2, 1.27, 'The ferry was\nrepaired in May.', COLOURS[0], fontsize=9.6)
    page.text(2.9, 1.8, 'premise, written for\n“a harbour town”', fontsize=8.4, color=SOFT, va='top')
    box(page, 5.5, 2.4, 2.5, .87, 'The ferry had broken.', COLOURS[2], fontsize=9.3)
    page.text(5.62, 3.13, 'follows', fontsize=8, color=COLOURS[2], weight='bold', va='center')
    box(page, 5.5, 1.2, 2.5, .87, 'Ferries can be mended.', COLOURS[1], fontsize=9.3)
    page.text(5.62, 1.93, 'does not follow', fontsize=8, color=COLOURS[1], weight='bold', va='center')
    box(page, 8.6, 2.4, 2.25, .87, 'follows  →  follows', COLOURS[2], ha='center', fontsize=9.3)
    box(page, 8.6, 1.2, 2.25, .87, 'does not follow\n→  follows', COLOURS[2], ha='center', fontsize=9.3)
    for y in (2.84, 1.64): arrow(page, (8.05, y), (8.55, y), INK)
    arrow(page, (2.25, 2.96), (2.7, 2.8), INK)
    arrow(page, (5.0, 2.8), (5.45, 2.84), INK)
    arrow(page, (5.0, 2.4), (5.45, 1.75), INK)
    notes = [(1.2, 'the teacher names places,\ntimes and subjects'), (3.85, 'what a row starts from,\nso that rows differ'),
             (6.75, 'the definition of the label\nsays what to write'), (9.75, 'the teacher reads each row again;\nanother answer changes its label')]
    for x, text in notes: page.text(x, .55, text, ha='center', va='center', fontsize=8.8, color=SOFT)
    return figure


if __name__ == '__main__':
    for draw in (corrsynth_step, synalign_way, targen_steps):
        draw().savefig(HERE/f'{draw.__name__}.png', dpi=150, facecolor='white')
