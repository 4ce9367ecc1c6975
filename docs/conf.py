"Configuration of the site. `make docs` writes its pages to _proc/pages (stage.py) and builds them into _docs."
import importlib
import inspect
import re
import sys
from importlib.resources import files
from pathlib import Path

here = Path(__file__).parent
sys.path[:0] = [str(here), str(here.parent)]

from docutils import nodes  # noqa: E402
from pygments.lexers.shell import BashLexer  # noqa: E402
from pygments.token import Name, Text  # noqa: E402
from sphinx.addnodes import pending_xref  # noqa: E402
from stage import in_repository, settings  # noqa: E402

project = author = settings()['lib_path']
copyright = settings()['copyright']
version = release = settings()['version']

extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.autosummary', 'sphinx.ext.napoleon', 'sphinx.ext.linkcode', 'sphinx_copybutton', 'mathml']
nitpicky = True
# Types of Python and of other libraries: their pages are elsewhere, and nothing is fetched.
nitpick_ignore_regex = [('py:.*', r'(?!synthlab\.).*')]
default_role = 'code'
smartquotes_action = 'qe'       # two hyphens stay two hyphens: they begin an option of a command

# Notebooks: outputs as stored, formulas in dollars, anchors as Jupyter makes them.
nb_execution_mode = 'off'
nb_merge_streams = True
nb_code_prompt_show, nb_code_prompt_hide = 'Show the code', 'Hide the code'
nb_render_markdown_format = 'myst'
myst_enable_extensions = ['dollarmath', 'colon_fence']
myst_dmath_double_inline = True
myst_heading_anchors = 4
myst_heading_slug_func = 'stage.jupyter_anchor'


# Reference
autosummary_generate = False
autodoc_default_options = {'members': True, 'member-order': 'bysource', 'ignore-module-all': True}       # a name is listed where it is defined
autodoc_typehints = 'none'
napoleon_google_docstring = False
napoleon_use_ivar = True


def linkcode_resolve(domain, info):
    "Lines of a name in the repository."
    try:
        module = importlib.import_module(info['module'])
        found = module
        for part in info['fullname'].split('.'): found = getattr(found, part)
        found = inspect.unwrap(found.fget if isinstance(found, property) else found)
        lines, first = inspect.getsourcelines(found)
        file = Path(inspect.getsourcefile(found)).relative_to(here.parent)
    except (AttributeError, TypeError, OSError, ValueError): return None        # a constant, or a name from elsewhere
    return f'{in_repository(file.as_posix())}#L{first}-L{first + len(lines) - 1}'


def name_types_fully(app, doctree):
    "Types in docstrings by their full names, since two modules may have a class of the same name: the one that the module imports is meant."
    for node in doctree.findall(pending_xref):
        module = importlib.import_module(node['py:module']) if node.get('py:module') else None
        found = getattr(module, node['reftarget'], None)
        if inspect.isclass(found) and found.__module__.startswith('synthlab.'): node['reftarget'] = f'{found.__module__}.{found.__qualname__}'


def keep_words_plain(app, doctree):
    "A word in lower case within a type, as in \"shape (n, labels)\", is no class and links to nothing."
    for node in list(doctree.findall(pending_xref)):
        word = node['reftarget']
        if node['reftype'] in ('class', 'obj') and word.islower() and '.' not in word: node.replace_self(node.children)


def leave_out_routing(app, what, name, found, skip, options):
    "scikit-learn gives each estimator methods such as `set_fit_request`, whose text links to pages of its own."
    return True if re.fullmatch('set_[a-z_]+_request', name) else None


def name_figures(app, doctree, page):
    "A figure without words of its own is named after its section; each opens in full at a click."
    for image in doctree.findall(nodes.image):
        section = image.parent
        while section and not isinstance(section, nodes.section): section = section.parent
        if section and not image.get('alt'): image['alt'] = f'Figure of the section "{section.next_node(nodes.title).astext()}"'
        if not {'width', 'height', 'scale'} & {*image.attributes}: image['width'] = '100%'


class Shell(BashLexer):
    "Commands, with each option as a token, within which no line is broken."
    def get_tokens_unprocessed(self, text):
        for place, kind, value in super().get_tokens_unprocessed(text):
            yield place, Name.Attribute if kind is Text and value.startswith('-') else kind, value


def setup(app):
    app.add_lexer('bash', Shell)
    app.connect('doctree-read', name_types_fully)
    app.connect('doctree-resolved', name_figures)
    app.connect('doctree-read', keep_words_plain)
    app.connect('autodoc-skip-member', leave_out_routing)


# Pages
html_theme = 'furo'
html_title = project
html_math_renderer = 'mathml'
html_static_path = ['static', str(files('ziamath')/'fonts'/'STIXTwoMath-Regular.ttf')]
html_css_files = ['site.css']
html_favicon = 'static/favicon.svg'
html_copy_source = False
html_show_sourcelink = False
pygments_style = 'friendly'
pygments_dark_style = 'github-dark'
copybutton_exclude = '.linenos, .gp, .go'
