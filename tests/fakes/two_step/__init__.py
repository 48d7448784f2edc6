"""Servers whose logins are not OAuth's, as their documentation describes them: for grant = "request".

Each has `application()`, `configuration(url)` (the table of the configuration that logs in there, as a user
writes it), `environment` (the variables that it names), `active(token)` and `logins`.
"""

from tests.fakes.two_step.github_app import GitHubApp
from tests.fakes.two_step.tableau import Tableau
from tests.fakes.two_step.toast import Toast
from tests.fakes.two_step.veeva import Veeva

__all__ = ["GitHubApp", "Tableau", "Toast", "Veeva"]
