// npm oidc-provider, a real OpenID provider: its own login and consent pages (any name and password will do),
// rotation with reuse detection, `iss` in the callback. It is told by the environment and tells on stdout, one
// JSON object a line: where it listens, every token request and what came of it, every revoked family.
// A line is written before the answer is sent.
import http from 'node:http';
import process from 'node:process';
import { Provider } from 'oidc-provider';

const { ACCESS_TTL, REDIRECT_URIS, M2M_SECRET, WEB_SECRET } = process.env;
const SENT = ['code', 'code_verifier', 'refresh_token'];
const GOT = ['access_token', 'refresh_token'];

const tell = (event, facts) => process.stdout.write(`${JSON.stringify({ event, at: Date.now() / 1000, ...facts })}\n`);
const pick = (object, names) => names.map((name) => object?.[name]).filter(Boolean);

const person = {
  response_types: ['code'],
  grant_types: ['authorization_code', 'refresh_token'],
  redirect_uris: REDIRECT_URIS.split(' '),
  scope: 'openid offline_access api',
};
const machine = { response_types: [], grant_types: ['client_credentials'], redirect_uris: [], scope: 'api' };
const ttl = Number(ACCESS_TTL);

const configuration = {
  clients: [
    { client_id: 'web', client_secret: WEB_SECRET, ...person },
    { client_id: 'cli', token_endpoint_auth_method: 'none', application_type: 'native', ...person },
    { client_id: 'm2m', client_secret: M2M_SECRET, ...machine },
    { client_id: 'm2m-post', client_secret: M2M_SECRET, token_endpoint_auth_method: 'client_secret_post', ...machine },
    { client_id: 'upstream', client_secret: 'introspect', ...machine },
  ],
  scopes: ['openid', 'offline_access', 'api'],
  claims: { openid: ['sub', 'email'] },
  conformIdTokenClaims: false, // all of them in the id_token, as Google and Microsoft have it
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'none'],
  pkce: { required: () => true },
  rotateRefreshToken: true,
  ttl: { AccessToken: ttl, ClientCredentials: ttl, RefreshToken: 3600, Session: 3600, Interaction: 600, Grant: 3600 },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
  },
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id, email: `${id}@people.example` }) }),
};

// The issuer holds the port, so the port comes first.
const server = http.createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration);
  provider.on('grant.revoked', (_ctx, family) => tell('family_revoked', { family }));
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.path !== '/token') return;
    const params = ctx.oidc?.params;
    const answer = ctx.body;
    tell('token', {
      grant: params?.grant_type, outcome: answer.error ?? 'success', sent: pick(params, SENT), got: pick(answer, GOT),
    });
  });
  server.on('request', provider.callback());
  tell('ready', { issuer, introspection_endpoint: `${issuer}/token/introspection` });
});
