// A Node program that uses fetch: caller.mjs METHOD URL BODY_FILE ANSWER_FILE; prints status and digest.
import fs from 'node:fs';
import process from 'node:process';

const [method, url, bodyFile, answerFile] = process.argv.slice(2);
const body = method === 'POST' ? fs.readFileSync(bodyFile) : undefined;
const answer = await fetch(url, { method, body, headers: { 'Content-Type': 'application/octet-stream' } });
fs.writeFileSync(answerFile, Buffer.from(await answer.arrayBuffer()));
console.log(answer.status, answer.headers.get('Content-Digest') ?? '');
