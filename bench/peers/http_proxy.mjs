// A reverse proxy with a static token as one writes it in Node: http-proxy with a keep-alive agent.
//
// Run: node http_proxy.mjs MODULES PORT UPSTREAM CA_FILE TOKEN
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { createRequire } from 'node:module';

const [modules, port, upstream, caFile, token] = process.argv.slice(2);
const httpProxy = createRequire(modules + '/')('http-proxy');

const { Agent } = upstream.startsWith('https:') ? https : http;
const proxy = httpProxy.createProxyServer({
  target: upstream,
  agent: new Agent({ keepAlive: true, maxFreeSockets: 8192, ca: readFileSync(caFile) }),
  secure: true,
  changeOrigin: true,
  headers: { authorization: `Bearer ${token}` },
});
proxy.on('error', (error, _request, response) => {
  console.error(error.message);
  response.writeHead(502).end();
});

// Else it relays the caller's wish to close to the upstream, and the upstream's keep-alive to the caller.
proxy.on('proxyReq', (request) => request.setHeader('connection', 'keep-alive'));
proxy.on('proxyRes', (answer, request) => {
  if (request.headers.connection === 'close') answer.headers.connection = 'close';
});

const server = http.createServer((request, response) => {
  request.url = request.url.replace(/^\/api/, '');
  proxy.web(request, response);
});
server.on('upgrade', (request, socket, head) => {
  request.url = request.url.replace(/^\/api/, '');
  proxy.ws(request, socket, head);
});
server.keepAliveTimeout = 3_600_000; // the default of 5 s would end idle connections while we count them
server.listen(Number(port), '127.0.0.1', 4096); // as long a queue of new connections as the others have
