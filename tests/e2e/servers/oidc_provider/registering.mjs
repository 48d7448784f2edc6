// npm oidc-provider as the authorization server of an MCP server: clients register themselves (RFC 7591), tokens
// are for the resource that was asked for (RFC 8707), refresh tokens rotate, with reuse detection. Told and
// telling as server.mjs.
import http from 'node:http';
import process from 'node:process';
import { Provider } from 'oidc-provider';

const ttl = Number(process.env.ACCESS_TTL);
const tell = (event, facts) => process.stdout.write(`${JSON.stringify({ event, at: Date.now() / 1000, ...facts })}\n`);
const reader = { client_id: 'reader', client_secret: 'introspect', response_types: [], redirect_uris: [] };

const configuration = {
  clients: [{ ...reader, grant_types: ['client_credentials'] }],
  scopes: ['openid', 'offline_access', 'tools'],
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'none'],
  pkce: { required: () => true },
  rotateRefreshToken: true,
  ttl: { AccessToken: ttl, RefreshToken: 3600, Session: 3600, Interaction: 600, Grant: 3600 },
  features: {
    devInteractions: { enabled: true },
    introspection: { enabled: true },
    clientCredentials: { enabled: true }, // for the client of the introspection
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_ctx, resource) => ({
        audience: resource, scope: 'tools', accessTokenFormat: 'opaque', accessTokenTTL: ttl,
      }),
      useGrantedResource: () => false, // each refresh has to name the resource
    },
    revocation: { enabled: true },
  },
  issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed('refresh_token'),
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
};

const server = http.createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration);
  provider.on('grant.revoked', (_ctx, family) => tell('family_revoked', { family }));
  provider.on('registration_create.success', (_ctx, client) => tell('registered', { client: client.clientId }));
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.path !== '/token') return;
    const { params, client } = ctx.oidc ?? {};
    tell('token', {
      grant: params?.grant_type, outcome: ctx.body.error ?? 'success', resource: params?.resource, client: client?.clientId,
    });
  });
  server.on('request', provider.callback());
  tell('ready', { issuer, introspection_endpoint: `${issuer}/token/introspection` });
});
