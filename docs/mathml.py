"""Formulas as MathML, which browsers draw themselves: no script is loaded, and a page is complete when it arrives.

math-core translates LaTeX at build time; what it cannot read is a warning, and so fails the build.
"""
import re
from html import escape

from docutils import nodes
from math_core import LatexError, LatexToMathML

converter = LatexToMathML(fancy_error=False)


def to_mathml(latex, display=False):
    "A formula in LaTeX as MathML."
    return converter.convert_with_local_state(latex, displaystyle=display)


def parts(latex):
    r"A displayed formula apart at each \qquad, so that a narrow screen can put one part under the other."
    pieces = re.split(r'\\qquad(?![a-zA-Z])', latex)
    pairs = (('{', '}'), (r'\left', r'\right'), (r'\begin', r'\end'))
    return pieces if all(piece.count(a) == piece.count(b) for piece in pieces for a, b in pairs) else [latex]


def written(latex, display, node):
    "MathML of a formula, or its LaTeX and a warning."
    try: return to_mathml(latex, display)
    except LatexError as error:
        from sphinx.util.logging import getLogger
        getLogger(__name__).warning('formula %r: %s', latex, error, location=node)
        return f'<code>{escape(latex)}</code>'


def inline(self, node):
    self.body.append(written(node.astext(), False, node))
    raise nodes.SkipNode


def block(self, node):
    drawn = ''.join(written(part, True, node) for part in parts(node.astext()))
    self.body.append(f'<div class="formula">{drawn}</div>\n')
    raise nodes.SkipNode


def text_at(line, place):
    "The words at a place among the children of a node; none where something else is."
    return line[place] if 0 <= place < len(line) and isinstance(line[place], nodes.Text) else ''


def keep_whole(app, doctree, page):
    "A formula and what stands right beside it, such as a bracket or a full stop, share a line."
    for formula in list(doctree.findall(nodes.math)):
        line, place = formula.parent, formula.parent.index(formula)
        before, after = text_at(line, place - 1), text_at(line, place + 1)
        head, tail = re.search(r'\S*\Z', before)[0], re.match(r'\S*', after)[0]
        if not head + tail: continue
        whole = nodes.inline('', '', nodes.Text(head), formula, nodes.Text(tail), classes=['whole'])
        first, last = nodes.Text(before.removesuffix(head)), nodes.Text(after.removeprefix(tail))
        line[place - bool(before):place + 1 + bool(after)] = [first, whole, last]


def setup(app):
    app.add_html_math_renderer('mathml', inline_renderers=(inline, None), block_renderers=(block, None))
    app.connect('doctree-resolved', keep_whole)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
