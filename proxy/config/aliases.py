"""Names that other tools have for our keys and values. Pure: the tables; meanings.py looks them up.

From oauth2-proxy, Envoy, nginx, Spring, Nango, Postman, email-oauth2-proxy, Go's and Python's OAuth
libraries, Google's client_secret.json and Azure. "*" stands for the name or the number of a table. Upper
case, "-" and camelCase make no difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_CERTIFICATE: Final = {
    "cert": "certificate cert_file certificate_file certificate_chain crt ssl_certificate tls_cert",
    "key": "key_file private_key private_key_file ssl_certificate_key tls_key",
}
_CA: Final = "ca_file ca_cert ca_certs ca_bundle root_ca trusted_ca ssl_ca_cert"
# By table: our key -> other names whose value is written in the same way
SAME: Final[Mapping[str, Mapping[str, str]]] = {
    "": {
        "credentials": "clients oauth oauth2 providers connections integrations",
        "routes": "proxies upstreams locations mappings backends",
        "callers": "consumers apps",
        "store": "storage database db token_store",
        "log": "logging logger",
        "notify": "notifications notification alert alerts alerting webhook webhooks",
    },
    "server": {
        "public_url": "external_url base_url root_url site_url",
        "allowed_hosts": "hosts server_name server_names trusted_hosts whitelist_domains",
        "state_dir": "data_dir state_directory state_path storage_path",
        "admin_key": "admin_token admin_password admin_secret",
        "tls": "ssl",
        "proxy": "http_proxy https_proxy egress_proxy outbound_proxy",
    },
    "store": {
        "url": "dsn uri database_url connection_string connection_url redis_url postgres_url",
        "key": "encryption_key secret secret_key master_key",
    },
    "log": {
        "level": "log_level verbosity",
        "format": "log_format encoding",
        "audit": "audit_file audit_log",
    },
    "credentials.*": {
        "issuer": "issuer_url issuer_uri oidc_issuer oidc_issuer_url authority authorization_server "
        "auth_server auth_server_url",
        "authorization_endpoint": "auth_url auth_uri auth_endpoint authorize_url authorize_uri "
        "authorize_endpoint authorization_url authorization_uri authorization_base_url "
        "user_authorization_uri login_url permission_url",
        "token_endpoint": "token_url token_uri access_token_url access_token_uri access_token_endpoint "
        "redeem_url",
        "revocation_endpoint": "revoke_url revoke_uri revoke_endpoint revocation_url revocation_uri",
        "introspection_endpoint": "introspect_url introspection_url introspection_uri introspect_endpoint "
        "validate_url",
        "device_authorization_endpoint": "device_url device_endpoint device_auth_url device_auth_endpoint "
        "device_authorization_url device_code_url device_code_endpoint",
        "pushed_authorization_request_endpoint": "par_endpoint par_url",
        "client_id": "app_id application_id consumer_key oauth_client_id",
        "client_secret": "secret app_secret application_secret consumer_secret oauth_client_secret "
        "client_password",
        "client_auth": "token_endpoint_auth_method auth_method auth_style authentication_method "
        "client_authentication client_authentication_method token_request_auth_method",
        "client_key_id": "kid key_id",
        "grant": "grant_type flow oauth_flow oauth2_flow authorization_grant_type",
        "scopes": "scope oauth2_scope oauth_scopes default_scopes permissions",
        "audience": "aud",
        "resource": "resources resource_uri resource_url oauth2_resource",
        "username": "user",
        "refresh_token": "initial_refresh_token offline_token seed",
        "authorize_params": "authorization_params authorization_parameters auth_params extra_auth_params",
        "token_params": "token_parameters extra_token_params token_request_params endpoint_params",
        "pkce": "use_pkce enable_pkce",
        "access_token_lifetime": "token_lifetime expires_in",
        "proxy": "http_proxy https_proxy egress_proxy",
    },
    "routes.*": {
        "upstream": "url uri target target_url backend backend_url base_url api_url api_base proxy_pass "
        "proxy_to forward_to destination dest to upstream_url",
        "path": "prefix path_prefix url_prefix uri_prefix base_path context_path mount location from",
        "host": "hostname domain server_name virtual_host",
        "credential": "credentials cred client oauth connection auth",
        "account": "user",
        "strip_path": "strip_prefix strip",
        "headers": "set_headers add_headers request_headers extra_headers request_headers_to_add",
        "drop": "drop_headers remove_headers hide_headers request_headers_to_remove",
        "methods": "method verbs http_methods allowed_methods",
        "allow": "allow_paths allowed_paths",
        "deny": "deny_paths denied_paths block",
        "websocket": "websockets ws",
        "origins": "cors cors_origins allowed_origins cors_allowed_origins",
        "tls": "ssl",
    },
    "callers.*": {
        "key": "api_key token secret password",
        "key_sha256": "key_hash sha256",
        "certificate": "cert san spiffe_id",
        "networks": "network ips ip cidr cidrs allowed_ips",
        "routes": "route allowed_routes",
        "accounts": "users allowed_accounts",
    },
    "notify": {
        "command": "cmd exec program script hook run",
        "url": "webhook webhook_url endpoint slack_url slack_webhook slack_webhook_url",
    },
    "limits": {
        "connect": "connect_timeout dial_timeout proxy_connect_timeout",
        "first_byte": "timeout read_timeout response_timeout upstream_timeout proxy_read_timeout",
        "idle": "idle_timeout keepalive_timeout keep_alive",
        "header_time": "header_timeout read_header_timeout client_header_timeout",
        "shutdown": "shutdown_timeout drain_timeout drain_time grace_period graceful_shutdown",
        "connections": "max_connections worker_connections",
        "header_size": "max_header_size large_client_header_buffers",
    },
    "tls": {**_CERTIFICATE, "ca": _CA, "server_name": "sni"},
    "server.tls": {**_CERTIFICATE, "client_ca": f"ca {_CA} client_ca_file client_cas mtls_ca"},
}
_OF_REDIRECTS: Final = "redirect_uri redirect_url redirect_uris redirect callback_url callback_uri"
_OUR_REDIRECT_URI: Final = (
    'leave it out, and register our redirect URI: server.public_url + "/callback", by default '
    "http://127.0.0.1:8081/callback"
)
_VERIFY: Final = (
    "verify verify_ssl ssl_verify verify_tls insecure insecure_skip_verify skip_verify "
    "ssl_insecure_skip_verify tls_verify"
)
_VERIFIED: Final = 'leave it out: certificates are always verified, and tls = { ca = "…" } trusts your own'
_TIMEOUTS: Final = "leave it out: timeouts are in [limits], for all routes"
# By table: other names -> our key, if there is one, and what to do
OTHERWISE: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "": {
        "log_level debug verbose": ("", 'did you mean [log] level = "debug"?'),
        "log_format": ("", "did you mean [log] format?"),
        "bind address port host": ("", 'did you mean [server] listen = "127.0.0.1:8080"?'),
        "timeout timeouts": ("", "did you mean the timeouts of [limits]?"),
    },
    "server": {
        "bind bind_address bind_port listen_address listen_port address addr host port http_address "
        "http_port interface": ("listen", 'did you mean listen = "127.0.0.1:8080"?'),
        "admin_port admin_address admin_listen dashboard ui management status": (
            "admin",
            'did you mean admin = "127.0.0.1:8081"?',
        ),
        "metrics metrics_port metrics_address prometheus health_port health_address probes": (
            "health",
            'did you mean health = "127.0.0.1:9102"?',
        ),
        _OF_REDIRECTS: ("public_url", 'did you mean public_url? The redirect URI is that + "/callback"'),
        "certificate cert cert_file ssl_certificate tls_cert tls_key key_file ssl_certificate_key": (
            "tls",
            'did you mean tls = { cert = "…", key = "…" }?',
        ),
        "log_level debug": ("", 'did you mean [log] level = "debug"?'),
        "workers threads processes worker_processes": (
            "",
            "leave it out: one process serves all connections",
        ),
        "timeout timeouts": ("", "leave it out: timeouts are in [limits]"),
        "cookie_secret session_secret": ("", "leave it out: no such secret is needed"),
    },
    "store": {
        "type kind driver backend path file filename": (
            "url",
            'did you mean url = "sqlite:NAME" or "postgresql://…"?',
        ),
    },
    "log": {
        "debug verbose": ("level", 'did you mean level = "debug"?'),
        "file path filename output": ("", "leave it out: the log goes to stderr, which can be redirected"),
        "access_log": ("", 'leave it out: level = "info" logs each request'),
    },
    "credentials.*": {
        "discovery discovery_url discovery_uri discovery_endpoint well_known well_known_url metadata_url "
        "metadata_endpoint server_metadata_url openid_configuration openid_configuration_url "
        "openid_connect_url": ("issuer", "did you mean issuer? It is that URL without /.well-known/…"),
        "domain auth0_domain": ("issuer", 'did you mean issuer = "https://DOMAIN"?'),
        "tenant tenant_id directory_id": (
            "issuer",
            'did you mean issuer = "https://login.microsoftonline.com/TENANT/v2.0"?',
        ),
        "realm": ("issuer", 'did you mean issuer = "https://HOST/realms/REALM"?'),
        "refresh_url refresh_uri refresh_endpoint refresh_token_url token_refresh_url": (
            "",
            "leave it out: refreshes go to token_endpoint",
        ),
        f"{_OF_REDIRECTS} redirect_listen_address": (
            "",
            _OUR_REDIRECT_URI,
        ),
        "access_type prompt login_hint hd acr_values approval_prompt response_mode duration": (
            "authorize_params",
            "did you mean authorize_params = { {key} = … }?",
        ),
        "code_challenge_method": ("", "leave it out: PKCE always uses S256"),
        "disable_pkce": ("pkce", "did you mean pkce = false?"),
        "response_type": ("", "leave it out: it is always code"),
        "nonce state": ("", "leave it out: each login makes its own"),
        "api_key token access_token bearer bearer_token": (
            "value",
            'did you mean value, with grant = "static"?',
        ),
        "private_key private_key_file private_key_path": (
            "client_key",
            'did you mean client_key = { file = "…" }, or key for grant = "jwt_bearer"?',
        ),
        "service_account service_account_file service_account_key credentials_file key_file json_key": (
            "key",
            'did you mean key = { file = "…" }, with grant = "jwt_bearer"?',
        ),
        "ca ca_file ca_cert ca_bundle": ("tls", 'did you mean tls = { ca = "…" }?'),
        _VERIFY: ("", _VERIFIED),
        "header header_name auth_header": ("attach", 'did you mean attach = { header = "…" }?'),
        "token_expiration_buffer expiry_buffer refresh_margin refresh_before leeway": (
            "refresh_at",
            "did you mean refresh_at = 0.8, a share of the lifetime?",
        ),
        "installed web": ("", "expected its keys in [credentials.NAME] itself"),
        "jwks_uri jwks_url jwk_set_uri userinfo_endpoint userinfo_url user_info_uri end_session_endpoint "
        "logout_url project_id javascript_origins auth_provider_x509_cert_url client_x509_cert_url "
        "universe_domain quota_project_id token_salt token_iterations encrypt_client_secret_on_first_use": (
            "",
            "leave it out: it is not needed",
        ),
        "name client_name display_name description title": (
            "",
            "leave it out: the name is that of the table, and # begins a comment",
        ),
        "base_url api_url api_base target backend proxy_pass": ("", "did you mean upstream of [[routes]]?"),
    },
    "routes.*": {
        "bind port address": ("listen", 'did you mean listen = "127.0.0.1:9001"?'),
        "prefix_rewrite rewrite": ("strip_path", "did you mean strip_path = true, and a base in upstream?"),
        "preserve_path keep_path keep_prefix": ("strip_path", "did you mean strip_path = false?"),
        "timeout timeouts read_timeout connect_timeout proxy_read_timeout proxy_connect_timeout "
        "idle_timeout": ("", _TIMEOUTS),
        "retries retry retry_policy": ("", "leave it out: only what is safe to repeat is repeated"),
        "rate_limit rate_limits": ("", "leave it out: there are no rate limits"),
        _VERIFY: ("", _VERIFIED),
        "ca ca_file ca_cert ca_bundle": ("tls", 'did you mean tls = { ca = "…" }?'),
        "pass_authorization pass_authorization_header": (
            "caller_authorization",
            'did you mean caller_authorization = "pass"?',
        ),
        "x_forwarded xff x_forwarded_for set_xforwarded": ("forwarded", "did you mean forwarded = true?"),
        "token": ("credential", "did you mean credential = NAME of [credentials.NAME]?"),
    },
    "limits": {
        "max_body max_body_size client_max_body_size body_size": (
            "",
            "leave it out: bodies are streamed, and may have any size",
        ),
    },
    "server.tls": {_VERIFY: ("", "leave it out: a client's certificate is always verified")},
    "tls": {_VERIFY: ("", 'leave it out: certificates are always verified, and ca = "…" trusts your own')},
}
# Values by key: other names -> ours
CHOICES: Final[Mapping[str, Mapping[str, str]]] = {
    "grant": {
        "authorization_code": "code auth_code oauth2 authorization pkce browser implicit oauth2_auth_code",
        "client_credentials": "client_credential m2m machine service account_credentials oauth2_cc",
        "device_code": "device device_flow urn:ietf:params:oauth:grant-type:device_code",
        "refresh_token": "refresh",
        "jwt_bearer": "jwt service_account urn:ietf:params:oauth:grant-type:jwt-bearer",
        "token_exchange": "exchange obo on_behalf_of urn:ietf:params:oauth:grant-type:token-exchange",
        "password": "ropc resource_owner_password_credentials",
        "static": "api_key bearer token none",
    },
    "client_auth": {
        "client_secret_basic": "basic header http_basic",
        "client_secret_post": "post body form params request_body",
        "private_key_jwt": "jwt",
        "client_secret_jwt": "secret_jwt",
        "tls_client_auth": "tls mtls",
        "none": "public",
    },
    "level": {"warning": "warn", "debug": "trace verbose", "error": "fatal critical"},
    "format": {"text": "plain console pretty logfmt"},
    "callback": {"own": "separate", "shared": "common"},
}
