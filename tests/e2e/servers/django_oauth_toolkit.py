"""django-oauth-toolkit, a real authorization server, in one file: plain OAuth 2.0, its issuer has a path.

Its own login and consent pages, rotation with reuse detection, hashed client secrets. It is told by the
environment (see Settings below) and tells on stdout, one JSON object a line: where it listens, every token
request and what came of it, every revoked family. A line is written before the answer is sent.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse

FOLDER = Path(os.environ["FOLDER"])  # for the database
ACCESS_TTL = int(os.environ["ACCESS_TTL"])  # seconds
REDIRECT_URIS = os.environ["REDIRECT_URIS"]  # with spaces between them
M2M_SECRET = os.environ["M2M_SECRET"]
WEB_SECRET = os.environ["WEB_SECRET"]
USERNAME, PASSWORD = os.environ["USERNAME"], os.environ["PASSWORD"]

APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "oauth2_provider",
]
LOGIN_PAGE = """<!doctype html><title>Log in</title>
<form method="post">{% csrf_token %}{{ form.as_p }}<button type="submit">Log in</button></form>"""
SENT = ("code", "code_verifier", "refresh_token")
GOT = ("access_token", "refresh_token")

Answer = Callable[[HttpRequest], HttpResponse]

settings.configure(
    SECRET_KEY="only for this test",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF="__main__",
    USE_TZ=True,
    STATIC_URL="/static/",
    LOGIN_URL="/login/",
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # a slow one costs 0.3 s a request
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": FOLDER / "db.sqlite3",
            # Threads write at the same time: they queue for the lock instead of failing half-way.
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL",
            },
        }
    },
    INSTALLED_APPS=APPS,
    MIGRATION_MODULES={app.rpartition(".")[2]: None for app in APPS},  # tables at once, not by their history
    MIDDLEWARE=[
        "__main__.token_journal",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "loaders": [
                    ("django.template.loaders.locmem.Loader", {"registration/login.html": LOGIN_PAGE}),
                    "django.template.loaders.app_directories.Loader",
                ]
            },
        }
    ],
    OAUTH2_PROVIDER={
        "SCOPES": {"api": "use the API"},
        "ACCESS_TOKEN_EXPIRE_SECONDS": ACCESS_TTL,
        "ROTATE_REFRESH_TOKEN": True,
        "REFRESH_TOKEN_REUSE_PROTECTION": True,
        "PKCE_REQUIRED": True,
        "ALLOWED_REDIRECT_URI_SCHEMES": ["http", "https"],
    },
)
django.setup()

from django.contrib.auth import get_user_model  # noqa: E402 - models need the settings above
from django.contrib.auth.views import LoginView  # noqa: E402 - as above
from django.core.management import call_command  # noqa: E402 - as above
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler  # noqa: E402 - as above
from django.core.wsgi import get_wsgi_application  # noqa: E402 - as above
from django.urls import include, path  # noqa: E402 - as above
from oauth2_provider.models import Application, RefreshToken  # noqa: E402 - as above
from oauth2_provider.urls import metadata_urlpatterns  # noqa: E402 - as above

urlpatterns = [
    path("login/", LoginView.as_view()),
    path("", include((metadata_urlpatterns, "metadata"))),
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
]


def tell(event: str, **facts: object) -> None:
    sys.stdout.write(json.dumps({"event": event, "at": time.time(), **facts}) + "\n")
    sys.stdout.flush()


def token_journal(get_response: Answer) -> Answer:
    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if request.path == "/o/token/":
            answer = json.loads(response.content)
            tell(
                "token",
                grant=request.POST.get("grant_type"),
                outcome=answer.get("error", "success"),
                sent=[request.POST[name] for name in SENT if name in request.POST],
                got=[answer[name] for name in GOT if name in answer],
            )
        return response

    return middleware


def tell_when_families_are_revoked() -> None:
    revoke_family = RefreshToken.revoke_family

    def revoke_and_tell(family: UUID) -> None:
        tell("family_revoked", family=str(family))
        revoke_family(family)

    RefreshToken.revoke_family = revoke_and_tell


def add_people_and_clients() -> None:
    call_command("migrate", run_syncdb=True, verbosity=0)
    get_user_model().objects.create_user(USERNAME, password=PASSWORD)
    confidential, public = Application.CLIENT_CONFIDENTIAL, Application.CLIENT_PUBLIC
    code, machine = Application.GRANT_AUTHORIZATION_CODE, Application.GRANT_CLIENT_CREDENTIALS
    for client_id, secret, kind, grant in (
        ("web", WEB_SECRET, confidential, code),
        ("cli", "", public, code),
        ("m2m", M2M_SECRET, confidential, machine),
        ("upstream", "introspect", confidential, machine),
    ):
        Application.objects.create(
            client_id=client_id,
            client_secret=secret,
            client_type=kind,
            authorization_grant_type=grant,
            redirect_uris=REDIRECT_URIS,
            name=client_id,
        )


class QuietHandler(WSGIRequestHandler):
    def log_message(self, _format: str, *_args: object) -> None:
        pass


def main() -> None:
    tell_when_families_are_revoked()
    add_people_and_clients()
    server = ThreadedWSGIServer(("127.0.0.1", 0), QuietHandler)
    server.set_app(get_wsgi_application())
    origin = f"http://127.0.0.1:{server.server_port}"
    tell("ready", issuer=f"{origin}/o", introspection_endpoint=f"{origin}/o/introspect/")
    server.serve_forever()


if __name__ == "__main__":
    main()
