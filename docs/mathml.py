"""Formulas as MathML, which browsers draw themselves: no script is loaded, and a page is complete when it arrives.

math-core translates LaTeX at build time; what it cannot read is a warning, and so fails the build.
"""
from html import escape

from docutils import nodes
from math_core import LatexError, LatexToMathML

converter = LatexToMathML(fancy_error=False)


def to_mathml(latex, display=False):
    "A formula in LaTeX as MathML."
    return converter.convert_with_local_state(latex, displaystyle=display)


def written(node, display):
    "MathML of a node, or its LaTeX and a warning."
    try: return to_mathml(node.astext(), display)
    except LatexError as error:
        from sphinx.util.logging import getLogger
        getLogger(__name__).warning('formula %r: %s', node.astext(), error, location=node)
        return f'<code>{escape(node.astext())}</code>'


def inline(self, node):
    self.body.append(written(node, False))
    raise nodes.SkipNode


def block(self, node):
    self.body.append(f'<div class="formula">{written(node, True)}</div>\n')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer('mathml', inline_renderers=(inline, None), block_renderers=(block, None))
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
