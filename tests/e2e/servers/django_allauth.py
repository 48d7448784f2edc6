"""django-allauth's provider (allauth.idp.oidc), with its own login and consent pages, in one file.

Its refresh tokens rotate; secrets in Basic are not decoded. It is told by the environment (see Settings
below) and tells on stdout, one JSON object a line: where it listens, every token request and what came of it.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import django
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse

FOLDER = Path(os.environ["FOLDER"])  # for the database
ACCESS_TTL = int(os.environ["ACCESS_TTL"])  # seconds
REDIRECT_URIS = os.environ["REDIRECT_URIS"]  # with spaces between them
M2M_SECRET = os.environ["M2M_SECRET"]
WEB_SECRET = os.environ["WEB_SECRET"]
USERNAME, PASSWORD = os.environ["USERNAME"], os.environ["PASSWORD"]

SENT = ("code", "code_verifier", "refresh_token")
GOT = ("access_token", "refresh_token")
APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "allauth",
    "allauth.account",
    "allauth.idp.oidc",
]
LABELS = {"allauth.account": "account", "allauth.idp.oidc": "allauth_idp_oidc"}

Answer = Callable[[HttpRequest], HttpResponse]


def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


settings.configure(
    SECRET_KEY="only for this test, and long enough for it",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF="__main__",
    USE_TZ=True,
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
    MIGRATION_MODULES={LABELS.get(app, app.rpartition(".")[2]): None for app in APPS},  # tables at once
    MIDDLEWARE=[
        "__main__.token_journal",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "allauth.account.middleware.AccountMiddleware",
    ],
    AUTHENTICATION_BACKENDS=["allauth.account.auth_backends.AuthenticationBackend"],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    ACCOUNT_LOGIN_METHODS={"username"},
    ACCOUNT_SIGNUP_FIELDS=["username*", "password1*"],
    ACCOUNT_EMAIL_VERIFICATION="none",
    ACCOUNT_RATE_LIMITS=False,
    IDP_OIDC_PRIVATE_KEY=private_key(),
    IDP_OIDC_ACCESS_TOKEN_EXPIRES_IN=ACCESS_TTL,
    IDP_OIDC_INTROSPECTION_ENABLED=True,
    IDP_OIDC_INTROSPECTION_CROSS_CLIENT_ALLOWED=True,
    IDP_OIDC_RATE_LIMITS={"introspect_ip": "9999/s/ip", "introspect_client": "9999/s/key"},
)
django.setup()

from allauth.idp.oidc.models import Client, Token  # noqa: E402 - models need the settings above
from django.contrib.auth import get_user_model  # noqa: E402 - as above
from django.core.management import call_command  # noqa: E402 - as above
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler  # noqa: E402 - as above
from django.core.wsgi import get_wsgi_application  # noqa: E402 - as above
from django.urls import include, path  # noqa: E402 - as above
from django.views.decorators.csrf import csrf_exempt  # noqa: E402 - as above


@csrf_exempt
def end_all(_request: HttpRequest) -> JsonResponse:
    Token.objects.all().delete()
    return JsonResponse({})


urlpatterns = [
    path("accounts/", include("allauth.account.urls")),
    path("", include("allauth.idp.urls")),
    path("end_all", end_all),
]


def tell(event: str, **facts: object) -> None:
    sys.stdout.write(json.dumps({"event": event, "at": time.time(), **facts}) + "\n")
    sys.stdout.flush()


def token_journal(get_response: Answer) -> Answer:
    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if request.path == "/identity/o/api/token":
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


def add_people_and_clients() -> None:
    call_command("migrate", run_syncdb=True, verbosity=0)
    get_user_model().objects.create_user(USERNAME, password=PASSWORD)
    for client_id, secret, grants, scopes in (
        ("web", WEB_SECRET, ["authorization_code", "refresh_token"], ["openid", "api"]),
        ("m2m", M2M_SECRET, ["client_credentials"], ["api"]),
        ("upstream", "introspect", ["client_credentials"], ["api"]),
    ):
        client = Client(id=client_id, name=client_id, redirect_uris="\n".join(REDIRECT_URIS.split()))
        client.set_secret(secret)
        client.set_grant_types(grants)
        client.set_scopes(scopes)
        client.save()


class QuietHandler(WSGIRequestHandler):
    def log_message(self, _format: str, *_args: object) -> None:
        pass


def main() -> None:
    add_people_and_clients()
    server = ThreadedWSGIServer(("127.0.0.1", 0), QuietHandler)
    server.set_app(get_wsgi_application())
    origin = f"http://127.0.0.1:{server.server_port}"
    introspection = f"{origin}/identity/o/api/introspect"
    tell("ready", issuer=origin, introspection_endpoint=introspection, control=origin)
    server.serve_forever()


if __name__ == "__main__":
    main()
