# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Configuration of the documentation, on top of Astropy's.  Offline: ``sphinx-build -D disable_intersphinx=1``.
"""

from sphinx_astropy.conf.v2 import *  # noqa: F401, F403

from clustercnn import __version__

project = "clustercnn"
author = "clustercnn developers"
copyright = author
version = release = __version__

html_theme_options = {"logo": {"text": f"clustercnn {version}"}}
html_favicon = None
plot_formats = [("png", 110)]
plot_html_show_source_link = False

# References into other packages are checked only where their inventories can be fetched.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(abc|astropy|collections|dask|matplotlib|numpy|pathlib|photutils|python|scipy|specutils|torch)\..*"),
    (r"py:.*", r"[^.]*"),
    # names that have a page under the subpackage that passes them on
    (r"py:.*", r"clustercnn\.(SyntheticCluster|stellar\.photometry\.passbands|simulation\.negatives\.NEGATIVES)"),
    (r"py:class", r"clustercnn\.network\.heads\.PosteriorHead"),
]


def setup(app):
    """Leave out the table of formats that Astropy's registry writes into ``read``; Sphinx cannot parse it below a section."""
    def without_formats(app, what, name, obj, options, lines):
        start = next((i for i, line in enumerate(lines) if "available built-in formats" in line), None)
        if start is not None:
            del lines[start:]

    app.connect("autodoc-process-docstring", without_formats, priority=400)  # before numpydoc
