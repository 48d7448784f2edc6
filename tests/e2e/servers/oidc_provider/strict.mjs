// npm oidc-provider with all of its strictness on: pushed requests only, tokens bound to a key, nonces in every
// proof, rotation, and a client for each way to authenticate, with and without logins. Its /resource takes only
// bound tokens, and verifies each proof with npm jose. It is told by the environment, and tells on stdout as
// server.mjs does. Clients with a certificate come to a second listener, named by mtls_endpoint_aliases.
import { createHash, X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import process from 'node:process';
import { calculateJwkThumbprint, EmbeddedJWK, exportJWK, importSPKI, jwtVerify } from 'jose';
import { Provider } from 'oidc-provider';

const { ACCESS_TTL, CLIENTS, FOLDER, REDIRECT_URIS } = process.env;
const read = (name) => fs.readFileSync(`${FOLDER}/${name}`);
const tell = (event, facts) => process.stdout.write(`${JSON.stringify({ event, at: Date.now() / 1000, ...facts })}\n`);
const sha256 = (text) => createHash('sha256').update(text).digest('base64url');
const ttl = Number(ACCESS_TTL);

// -- the authorization server

const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code';
const GRANTS = {
  authorization_code: {
    response_types: ['code'],
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: REDIRECT_URIS.split(' '),
    scope: 'openid offline_access api',
    require_pushed_authorization_requests: true,
  },
  device_code: {
    response_types: [], grant_types: [DEVICE, 'refresh_token'], redirect_uris: [], scope: 'openid offline_access api',
  },
  client_credentials: { response_types: [], grant_types: ['client_credentials'], redirect_uris: [], scope: 'api' },
};

const publicKey = async (name, alg) => exportJWK(await importSPKI(read(name).toString(), alg));

const certificate = new X509Certificate(read('self-signed.pem'));
const KEYS = {
  private_key_jwt: async () => ({ keys: [{ ...(await publicKey('client.pub', 'PS256')), kid: '2027-01', use: 'sig' }] }),
  self_signed_tls_client_auth: async () => ({
    keys: [{ ...(await exportJWK(certificate.publicKey)), x5c: [certificate.raw.toString('base64')] }],
  }),
};
const MORE = {
  private_key_jwt: { token_endpoint_auth_signing_alg: 'PS256' },
  client_secret_jwt: { token_endpoint_auth_signing_alg: 'HS256' },
  tls_client_auth: { tls_client_auth_san_dns: 'client.example' },
};

const clients = [];
for (const [id, method, grant, secret] of JSON.parse(CLIENTS)) {
  clients.push({
    client_id: id,
    token_endpoint_auth_method: method,
    dpop_bound_access_tokens: true,
    ...(secret ? { client_secret: secret } : {}),
    ...(KEYS[method] ? { jwks: await KEYS[method]() } : {}),
    ...(method === 'none' ? { application_type: 'native' } : {}),
    ...MORE[method],
    ...GRANTS[grant],
  });
}

const peer = (ctx) => ctx.socket.getPeerX509Certificate?.();
const configuration = (alias) => ({
  clients,
  scopes: ['openid', 'offline_access', 'api'],
  claims: { openid: ['sub'] },
  conformIdTokenClaims: false,
  clientAuthMethods: [
    'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'tls_client_auth',
    'self_signed_tls_client_auth', 'none',
  ],
  enabledJWA: { clientAuthSigningAlgValues: ['PS256', 'ES256', 'HS256'] },
  discovery: {
    mtls_endpoint_aliases: {
      token_endpoint: `${alias}/token`,
      revocation_endpoint: `${alias}/token/revocation`,
      pushed_authorization_request_endpoint: `${alias}/request`,
      device_authorization_endpoint: `${alias}/device/auth`,
    },
  },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: async () => true,
  ttl: {
    AccessToken: ttl, ClientCredentials: ttl, RefreshToken: 3600, Session: 3600, Interaction: 600, Grant: 3600,
    DeviceCode: 600,
  },
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: true },
    dPoP: { enabled: true, nonceSecret: Buffer.alloc(32, 7), requireNonce: () => true },
    mTLS: {
      enabled: true,
      tlsClientAuth: true,
      selfSignedTlsClientAuth: true,
      getCertificate: (ctx) => peer(ctx)?.toString(),
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, property, expected) =>
        property === 'tls_client_auth_san_dns' && peer(ctx).checkHost(expected) === expected,
    },
    pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: true },
    revocation: { enabled: true, allowedPolicy: async () => true },
  },
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
});

// -- the API

const used = new Set();
let taken = 0;
const nonce = () => `api-${Math.floor(taken / 3)}`; // another one after each three requests

async function judge(provider, ctx) {
  const [scheme, token] = (ctx.get('authorization') ?? '').split(' ');
  if (scheme !== 'DPoP') return `scheme ${scheme}`;
  const options = { typ: 'dpop+jwt', algorithms: ['ES256', 'EdDSA'], maxTokenAge: 60, clockTolerance: 5 };
  const { payload, protectedHeader } = await jwtVerify(ctx.get('dpop'), EmbeddedJWK, options);
  if (payload.htm !== ctx.method || payload.htu !== `http://${ctx.get('host')}${ctx.path}`) return `htu ${payload.htu}`;
  if (payload.ath !== sha256(token)) return 'ath';
  if (!payload.jti || used.has(payload.jti)) return 'jti';
  used.add(payload.jti);
  if (payload.nonce !== nonce()) return 'nonce';
  const found = (await provider.AccessToken.find(token)) ?? (await provider.ClientCredentials.find(token));
  if (!found) return 'expired';
  const jkt = await calculateJwkThumbprint(protectedHeader.jwk);
  if (found.jkt !== jkt) return 'jkt';
  taken += 1;
  ctx.body = { client: found.clientId, subject: found.accountId ?? null, jkt, token: sha256(token) };
  return '';
}

async function resource(provider, ctx) {
  const fault = await judge(provider, ctx).catch((error) => `proof ${error.message}`);
  tell('resource', { fault });
  ctx.set('DPoP-Nonce', nonce());
  if (!fault) return;
  const code = { nonce: 'use_dpop_nonce', expired: 'invalid_token' }[fault] ?? 'invalid_dpop_proof';
  ctx.set('WWW-Authenticate', `DPoP error="${code}", algs="ES256 EdDSA"`);
  ctx.status = 401;
  ctx.body = { fault };
}

// -- both listeners

const plain = http.createServer();
const secure = https.createServer({
  key: read('server.key'), cert: read('server.pem'), ca: read('clients.pem'), requestCert: true, rejectUnauthorized: false,
});
const listening = (server) => new Promise((done) => server.listen(0, '127.0.0.1', done));
await Promise.all([listening(plain), listening(secure)]);
const issuer = `http://127.0.0.1:${plain.address().port}`;
const provider = new Provider(issuer, configuration(`https://127.0.0.1:${secure.address().port}`));
provider.on('grant.revoked', (_ctx, family) => tell('family_revoked', { family }));
provider.on('server_error', (_ctx, error) => tell('server_error', { error: String(error?.stack) }));
provider.use(async (ctx, next) => {
  if (ctx.path === '/resource') return resource(provider, ctx);
  await next();
  if (ctx.method !== 'POST' || !ctx.oidc?.client) return undefined;
  const { body } = ctx;
  tell(ctx.oidc.route, {
    client: ctx.oidc.client.clientId,
    grant: ctx.oidc.params?.grant_type,
    outcome: body?.error ?? 'success',
    description: body?.error_description,
    secure: ctx.socket.encrypted === true,
    proof: Boolean(ctx.get('dpop')),
    type: body?.token_type,
  });
  return undefined;
});
plain.on('request', provider.callback());
secure.on('request', provider.callback());
tell('ready', { issuer });
