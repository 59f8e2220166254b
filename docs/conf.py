"""The documentation site: ``sphinx-build -W -n docs docs/_build``."""

import shutil
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent

project = "deeplense-pipeline"
author = "the deeplense-pipeline developers"
html_title = "deeplense-pipeline"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "jupyter_execute"]  # what a site built here leaves
html_theme = "furo"
html_show_copyright = False

# The notebooks lie beside the documentation; the tests run them, the site shows them as they are.
nb_execution_mode = "off"
shutil.rmtree(HERE / "notebooks", ignore_errors=True)
shutil.copytree(ROOT / "notebooks", HERE / "notebooks", ignore=shutil.ignore_patterns(".*"))

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

# Units and shapes stand in the docstrings; types there are words for people, not references.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = True
nitpick_ignore_regex = [("py:.*", ".*")]
