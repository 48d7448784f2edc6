"""grant = "token_exchange": a token of somebody is exchanged for one for the upstream (RFC 8693).

The subject is each caller's own token, or one that the platform writes into a file. Refresh tokens of the
response are not used: the subject is exchanged again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from proxy.config.model import Credential
from proxy.oauth.grants.base import Form, Grant, Proof, Renewal, no_remedy, with_scope
from proxy.secret import Secret

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"


def _form(credential: Credential, _refresh_token: Secret | None) -> Form:
    """RFC 8693 section 2.1; the subject is added when it is sent."""
    form = {"grant_type": GRANT_TYPE, "subject_token_type": credential.subject_token_type}
    if credential.requested_token_type is not None:
        form["requested_token_type"] = credential.requested_token_type
    if credential.audience is not None:
        form["audience"] = credential.audience
    return with_scope(form, credential)


def form_for(credential: Credential, subject: Secret) -> Form:
    """The exchange of a caller's own token."""
    return {**_form(credential, None), "subject_token": subject.reveal()}


def _file(credential: Credential) -> Path | None:
    subject = credential.subject_token
    return subject if isinstance(subject, Path) else None


def _proof(_credential: Credential, proof: Proof) -> Form:
    return {} if proof.content is None else {"subject_token": proof.content.reveal()}


TOKEN_EXCHANGE: Final = Grant(
    name="token_exchange",
    grant_type=GRANT_TYPE,
    renewal=Renewal.ITSELF,
    form=_form,
    remedy=no_remedy,
    file=_file,
    proof=_proof,
    refused=(
        "the authorization server refuses the subject token",
        "check subject_token, subject_token_type and audience of credentials.{credential}",
    ),
)
