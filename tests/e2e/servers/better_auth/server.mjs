// better-auth with its OAuth provider: the issuer has a path, `iss` is always in the callback, a client that is
// registered for one way of authentication refuses the other. Its pages are the application's: a form for each of its
// endpoints. It is told by the environment and tells on stdout, one JSON object a line: where it listens, every token
// request and what came of it.
import http from 'node:http';
import process from 'node:process';
import { oauthProvider } from '@better-auth/oauth-provider';
import { betterAuth } from 'better-auth';
import { memoryAdapter } from 'better-auth/adapters/memory';
import { jwt } from 'better-auth/plugins';

const { ACCESS_TTL, REDIRECT_URIS, M2M_SECRET, WEB_SECRET, USERNAME, PASSWORD } = process.env;
const ttl = Number(ACCESS_TTL);
const BASE = '/api/auth';
const SENT = ['code', 'code_verifier', 'refresh_token'];
const GOT = ['access_token', 'refresh_token'];
const CLIENTS = [['web', WEB_SECRET], ['m2m', M2M_SECRET]];
const SCOPES = ['openid', 'offline_access', 'api'];
const TABLES = ['user', 'session', 'account', 'verification', 'jwks', 'rateLimit', 'oauthClient', 'oauthAccessToken',
  'oauthRefreshToken', 'oauthConsent', 'oauthResource', 'oauthClientResource', 'oauthClientAssertion'];

const tell = (event, facts) => process.stdout.write(`${JSON.stringify({ event, at: Date.now() / 1000, ...facts })}\n`);
const pick = (object, names) => names.map((name) => object?.[name]).filter(Boolean);
const database = Object.fromEntries(TABLES.map((name) => [name, []]));
const page = (form) => `<!doctype html><title>Example</title><form method="post">${form}<button type="submit">Go on</button></form>`;
const LOGIN = page('<input name="username"><input name="password" type="password">');
const CONSENT = page('<input type="hidden" name="accept" value="yes">');

function made(origin) {
  const waiting = CLIENTS.map(([id, secret]) => ({ id, secret }));
  return betterAuth({
    baseURL: origin,
    secret: 'only for this test, and long enough for it',
    database: memoryAdapter(database),
    emailAndPassword: { enabled: true, password: { hash: async (word) => word, verify: async ({ hash, password }) => hash === password } },
    rateLimit: { enabled: false },
    telemetry: { enabled: false },
    logger: { level: 'error' },
    plugins: [jwt(), oauthProvider({
      loginPage: '/sign-in',
      consentPage: '/consent',
      scopes: SCOPES,
      accessTokenExpiresIn: ttl,
      m2mAccessTokenExpiresIn: ttl,
      generateClientId: () => waiting[0].id,
      generateClientSecret: () => waiting.shift().secret,
      clientPrivileges: () => true,
      silenceWarnings: { oauthAuthServerConfig: true, openidConfig: true },
    })],
  });
}

async function read(request) {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  return Buffer.concat(pieces);
}

const listening = http.createServer();
listening.listen(0, '127.0.0.1', async () => {
  const origin = `http://127.0.0.1:${listening.address().port}`;
  const auth = made(origin);

  async function ask(path, { method = 'POST', headers = {}, body }) {
    return auth.handler(new Request(origin + path, { method, headers, body }));
  }

  const asJson = (cookie, document) => ({
    headers: { 'Content-Type': 'application/json', Origin: origin, Cookie: cookie ?? '' },
    body: JSON.stringify(document),
  });

  function forward(response, answer, body) {
    answer.headers.forEach((value, name) => { if (name !== 'set-cookie') response.setHeader(name, value); });
    if (answer.headers.getSetCookie().length) response.setHeader('Set-Cookie', answer.headers.getSetCookie());
    response.writeHead(answer.status);
    response.end(body);
  }

  async function goOn(response, answer) {
    const body = await answer.text();
    const { url } = answer.ok ? JSON.parse(body) : {};
    if (!url) { forward(response, answer, body); return; }
    response.writeHead(302, { Location: url, 'Set-Cookie': answer.headers.getSetCookie() });
    response.end();
  }

  async function pages(request, response, url, given) {
    if (request.method === 'GET') {
      response.writeHead(200, { 'Content-Type': 'text/html' });
      response.end(url.pathname === '/consent' ? CONSENT : LOGIN);
      return;
    }
    const { username, password } = Object.fromEntries(new URLSearchParams(given.toString()));
    const query = { oauth_query: url.search.slice(1) };
    const { cookie } = request.headers;
    const answer = url.pathname === '/consent'
      ? await ask(`${BASE}/oauth2/consent`, asJson(cookie, { accept: true, ...query }))
      : await ask(`${BASE}/sign-in/email`, asJson(cookie, { email: `${username}@people.example`, password, ...query }));
    await goOn(response, answer);
  }

  async function introspect(response, given) {
    const token = new URLSearchParams(given.toString()).get('token');
    let found = { active: false };
    for (const [id, secret] of CLIENTS) {
      const pair = Buffer.from(`${encodeURIComponent(id)}:${encodeURIComponent(secret)}`).toString('base64');
      const headers = { 'Content-Type': 'application/x-www-form-urlencoded' };
      if (id === 'm2m') headers.Authorization = `Basic ${pair}`;
      const form = id === 'm2m' ? { token } : { token, client_id: id, client_secret: secret };
      const answer = await ask(`${BASE}/oauth2/introspect`, { headers, body: new URLSearchParams(form).toString() });
      const said = answer.ok ? await answer.json() : {};
      if (said.active) found = { active: true, sub: said.sub, client_id: said.client_id };
    }
    response.writeHead(200, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify(found));
  }

  async function relay(request, response, url, given) {
    const body = given.length ? given : undefined;
    const answer = await ask(url.pathname + url.search, { method: request.method, headers: request.headers, body });
    const said = await answer.text();
    if (url.pathname === `${BASE}/oauth2/token`) {
      const form = Object.fromEntries(new URLSearchParams(given.toString()));
      const document = JSON.parse(said || '{}');
      tell('token', { grant: form.grant_type, outcome: document.error ?? 'success', sent: pick(form, SENT), got: pick(document, GOT) });
    }
    forward(response, answer, said);
  }

  async function serve(request, response) {
    const url = new URL(request.url, origin);
    const given = await read(request);
    if (['/sign-in', '/consent'].includes(url.pathname)) await pages(request, response, url, given);
    else if (url.pathname === '/introspect') await introspect(response, given);
    else if (url.pathname === '/end_all') {
      database.oauthAccessToken.length = 0;
      database.oauthRefreshToken.length = 0;
      response.end('{}');
    } else await relay(request, response, url, given);
  }

  listening.on('request', (request, response) => {
    serve(request, response).catch((error) => { process.stderr.write(`${error.stack}\n`); response.writeHead(500).end(); });
  });

  const person = { email: `${USERNAME}@people.example`, password: PASSWORD, name: USERNAME };
  const registered = await auth.api.signUpEmail({ body: person, returnHeaders: true });
  const cookies = registered.headers.getSetCookie().map((cookie) => cookie.split(';')[0]).join('; ');
  const headers = new Headers({ Cookie: cookies });
  await auth.api.adminCreateOAuthClient({ headers, body: {
    redirect_uris: REDIRECT_URIS.split(' ').slice(0, 1), application_type: 'native', scope: SCOPES.join(' '), token_endpoint_auth_method: 'client_secret_post',
    grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
  } });
  await auth.api.adminCreateOAuthClient({ headers, body: {
    scope: 'api', token_endpoint_auth_method: 'client_secret_basic', grant_types: ['client_credentials'], response_types: [],
    client_credentials_scopes: ['api'],
  } });
  tell('ready', { issuer: origin + BASE, introspection_endpoint: `${origin}/introspect`, control: origin });
});
