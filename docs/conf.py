"""Sphinx settings; `make docs` builds with warnings as errors."""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))

project = "herjax"
author = "the authors of herjax"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "struct_fields", "covers_all"]
exclude_patterns = ["_build", "extensions"]
if not (HERE.parent / "CHANGELOG.md").exists():
    exclude_patterns.append("project/changelog.md")

html_theme = "furo"
html_title = "herjax"
html_show_copyright = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# The tutorial runs at every build, and an error in it fails the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds a cell
nb_merge_streams = True

autodoc_class_signature = "separated"  # fields and their defaults are told below, not in one line
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_type_aliases = {  # the names that struct_fields gives
    "ArrayLike": "numpy.typing.ArrayLike",
    "OptionalArrayLike": "numpy.typing.ArrayLike | None",
}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88

# Types of other projects, whose documentation a build without network cannot look into.
nitpick_ignore_regex = [
    (r"py:(class|data|obj)", r"(jax|jaxlib|numpy|np|flax|optax|collections\.abc)\..+"),
    (r"py:(class|data|obj|exc)", r"(typing|os|pathlib)\..+"),
    ("py:class", "ArrayTree"),  # of optax
]
