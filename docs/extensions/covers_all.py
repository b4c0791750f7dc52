"""Fails the build if a public name of herjax has no entry in the reference."""

from sphinx.util import logging

import herjax


def setup(app):
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True}


def check(app, env):
    documented = set(env.domains.python_domain.objects)
    for name in herjax.__all__:
        if f"herjax.{name}" not in documented:
            logging.getLogger(__name__).warning("docs/api.md lacks herjax.%s", name)
