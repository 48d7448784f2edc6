"""Client libraries with a key field of their own, as programs: CLIENT BASE_URL KEY.

Each prints what one request of it returned, or "refused 401" for its library's own authentication error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable


def with_openai(url: str, key: str) -> str:
    import openai

    client = openai.OpenAI(api_key=key, base_url=f"{url}/openai/v1", max_retries=0)
    try:
        return client.models.list().data[0].id
    except openai.AuthenticationError as error:
        return f"refused {error.status_code}"


def with_azure_openai(url: str, key: str) -> str:
    import openai

    client = openai.AzureOpenAI(
        api_key=key, azure_endpoint=f"{url}/azure", api_version="2024-10-21", max_retries=0
    )
    try:
        return client.models.list().data[0].id
    except openai.AuthenticationError as error:
        return f"refused {error.status_code}"


def with_anthropic(url: str, key: str) -> str:
    import anthropic

    client = anthropic.Anthropic(api_key=key, base_url=f"{url}/anthropic", max_retries=0)
    try:
        return client.models.list().data[0].id
    except anthropic.AuthenticationError as error:
        return f"refused {error.status_code}"


def with_google_genai(url: str, key: str) -> str:
    from google import genai
    from google.genai import errors, types

    client = genai.Client(
        api_key=key, http_options=types.HttpOptions(base_url=f"{url}/google", api_version="v1beta")
    )
    try:
        return str(client.models.get(model="m-1").name).removeprefix("models/")
    except errors.ClientError as error:
        return f"refused {error.code}"


def with_gitlab(url: str, key: str) -> str:
    import gitlab

    client = gitlab.Gitlab(f"{url}/gitlab", private_token=key)
    try:
        return str(client.version()[0] if client.auth() is None else "")
    except gitlab.GitlabAuthenticationError as error:
        return f"refused {error.response_code}"


CLIENTS: dict[str, Callable[[str, str], str]] = {
    "openai": with_openai,
    "azure-openai": with_azure_openai,
    "anthropic": with_anthropic,
    "google-genai": with_google_genai,
    "gitlab": with_gitlab,
}

if __name__ == "__main__":
    _, name, base_url, caller_key = sys.argv
    print(CLIENTS[name](base_url, caller_key))
