// @node-oauth/oauth2-server: plain OAuth 2.0 without metadata, refresh tokens that work once, and secrets that are not
// decoded from Basic. The library has no pages and no store: both are here, as its users write them. It is told by the
// environment and tells on stdout, one JSON object a line: where it listens, every token request and what came of it.
import http from 'node:http';
import process from 'node:process';
import OAuth2Server from '@node-oauth/oauth2-server';

const { ACCESS_TTL, REDIRECT_URIS, M2M_SECRET, WEB_SECRET, USERNAME, PASSWORD } = process.env;
const ttl = Number(ACCESS_TTL);
const SENT = ['code', 'code_verifier', 'refresh_token'];
const GOT = ['access_token', 'refresh_token'];

const tell = (event, facts) => process.stdout.write(`${JSON.stringify({ event, at: Date.now() / 1000, ...facts })}\n`);
const pick = (object, names) => names.map((name) => object?.[name]).filter(Boolean);

const clients = [
  { id: 'web', secret: WEB_SECRET, grants: ['authorization_code', 'refresh_token'], redirectUris: REDIRECT_URIS.split(' ') },
  { id: 'm2m', secret: M2M_SECRET, grants: ['client_credentials'] },
];
const codes = new Map();
const accessTokens = new Map();
const refreshTokens = new Map();

const model = {
  getClient: async (id, secret) => clients.find((client) => client.id === id && (secret === null || client.secret === secret)),
  getUserFromClient: async (client) => ({ id: client.id }),
  validateScope: async (_user, _client, scope) => scope ?? [],
  saveAuthorizationCode: async (code, client, user) => {
    const saved = { ...code, client, user };
    codes.set(code.authorizationCode, saved);
    return saved;
  },
  getAuthorizationCode: async (code) => codes.get(code),
  revokeAuthorizationCode: async (code) => codes.delete(code.authorizationCode),
  saveToken: async (token, client, user) => {
    const saved = { ...token, client, user };
    accessTokens.set(token.accessToken, saved);
    if (token.refreshToken) refreshTokens.set(token.refreshToken, saved);
    return saved;
  },
  getAccessToken: async (token) => accessTokens.get(token),
  getRefreshToken: async (token) => refreshTokens.get(token),
  revokeToken: async (token) => refreshTokens.delete(token.refreshToken),
};
const oauth = new OAuth2Server({ model, accessTokenLifetime: ttl, refreshTokenLifetime: 3600 });

const page = (form) => `<!doctype html><title>Example</title><form method="post">${form}<button type="submit">Go on</button></form>`;
const LOGIN = page('<input name="username"><input name="password" type="password">');
const CONSENT = page('<input type="hidden" name="consent" value="yes">');

async function read(request) {
  let body = '';
  for await (const piece of request) body += piece;
  return Object.fromEntries(new URLSearchParams(body));
}

function send(response, status, headers, body) {
  response.writeHead(status, headers);
  response.end(typeof body === 'string' ? body : JSON.stringify(body));
}

const html = (response, text) => send(response, 200, { 'Content-Type': 'text/html' }, text);
const json = (response, document) => send(response, 200, { 'Content-Type': 'application/json' }, document);

async function authorize(request, response, url) {
  const given = request.method === 'POST' ? await read(request) : {};
  if (given.username === USERNAME && given.password === PASSWORD) {
    response.setHeader('Set-Cookie', 'session=alice; HttpOnly; SameSite=Lax');
    html(response, CONSENT);
    return;
  }
  const known = (request.headers.cookie ?? '').includes('session=alice');
  if (!known || !given.consent) {
    html(response, known ? CONSENT : LOGIN);
    return;
  }
  const query = Object.fromEntries(url.searchParams);
  const asked = new OAuth2Server.Request({ method: 'GET', headers: request.headers, query, body: {} });
  const answer = new OAuth2Server.Response();
  try {
    await oauth.authorize(asked, answer, { authenticateHandler: { handle: () => ({ id: USERNAME }) } });
  } catch { /* the answer has the error */ }
  send(response, answer.status, answer.headers, '');
}

async function token(request, response) {
  const body = await read(request);
  const asked = new OAuth2Server.Request({ method: request.method, headers: request.headers, query: {}, body });
  const answer = new OAuth2Server.Response();
  try {
    await oauth.token(asked, answer);
  } catch { /* the answer has the error */ }
  const said = answer.body ?? {};
  tell('token', { grant: body.grant_type, outcome: said.error ?? 'success', sent: pick(body, SENT), got: pick(said, GOT) });
  send(response, answer.status, { 'Content-Type': 'application/json', ...answer.headers }, said);
}

async function introspect(request, response) {
  const found = accessTokens.get((await read(request)).token);
  const active = found !== undefined && found.accessTokenExpiresAt > new Date();
  json(response, active ? { active, sub: found.user.id, client_id: found.client.id } : { active: false });
}

async function endAll(_request, response) {
  accessTokens.clear();
  refreshTokens.clear();
  json(response, {});
}

const endpoints = { '/authorize': authorize, '/token': token, '/introspect': introspect, '/end_all': endAll };
const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://127.0.0.1');
  const endpoint = endpoints[url.pathname];
  if (endpoint) endpoint(request, response, url).catch((error) => process.stderr.write(`${error.stack}\n`));
  else send(response, 404, {}, '');
});
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  tell('ready', { issuer, introspection_endpoint: `${issuer}/introspect`, control: issuer });
});
