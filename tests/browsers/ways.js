// All the ways in which a page can cause a request: `WAYS[name](url, run)`; `url(type)` is the address to attack,
// which responds with that type if it responds at all. What a way can read it gives to `run.read`.

let run_origin = location.origin; // of the attacker's site
const SVG = "http://www.w3.org/2000/svg";
// Not by a timer: browsers slow those of pages in the background down.
const wait = ms => fetch(`${run_origin}/pause?ms=${ms}`, { mode: "no-cors" });

function element(name, attributes = {}, parent = document.body) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

function style(text) { element("style", {}, document.head).textContent = text; }

function svg(name, attributes) {
  const root = document.createElementNS(SVG, "svg"), made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  root.append(made);
  document.body.append(root);
}

// A document that runs `code` with `to`, the address to attack.
function inner(to, code) {
  return `<!doctype html><body><script>const to=${JSON.stringify(to)};(async()=>{${code}})()<\/script>`;
}

function frame(attributes, run) {
  const made = element("iframe", attributes);
  made.onload = () => { try { run.read(made.contentDocument.body.innerText); } catch { /* another origin's */ } };
  return made;
}

function form(to, attributes = {}, submit = true) {
  const made = element("form", { action: to, target: `w${Math.random()}`, ...attributes });
  element("iframe", { name: made.target });
  element("input", { name: "a", value: "b" }, made);
  if (submit) made.submit();
  return made;
}

async function call(to, run, options = {}) {
  try { run.read(await (await fetch(to, options)).text()); } catch { /* refused by the browser */ }
}

function xhr(method, to, run, body, prepare = () => {}) {
  const made = new XMLHttpRequest();
  made.open(method, to);
  made.onload = () => run.read(made.responseText);
  prepare(made);
  made.send(body);
}

// A window, not a tab: browsers load no media for pages behind others.
const popup = (to, options = "popup,width=300,height=300") => window.open(to, `p${Math.random()}`, options);
const redirect = (code, to) => `${run_origin}/redirect/${code}?to=${encodeURIComponent(to)}`;

const WAYS = {
  // -- elements
  img: url => element("img", { src: url("svg") }),
  img_new: url => { new Image().src = url("svg"); },
  img_cors: url => element("img", { src: url("svg"), crossorigin: "anonymous" }),
  img_credentials: url => element("img", { src: url("svg"), crossorigin: "use-credentials" }),
  img_srcset: url => element("img", { srcset: `${url("svg")} 1x` }),
  picture: url => {
    const made = element("picture");
    element("source", { srcset: url("svg") }, made);
    element("img", {}, made);
  },
  input_image: url => element("input", { type: "image", src: url("svg") }),
  body_background: url => {
    const made = element("iframe");
    made.contentDocument.body.setAttribute("background", url("svg"));
  },
  table_background: url => { element("table", { background: url("svg") }).innerHTML = "<tr><td>x"; },
  script: url => element("script", { src: url("js") }),
  script_cors: url => element("script", { src: url("js"), crossorigin: "anonymous" }),
  script_module: url => element("script", { src: url("js"), type: "module" }),
  svg_script: url => svg("script", { href: url("js") }),
  link_css: url => element("link", { rel: "stylesheet", href: url("css") }, document.head),
  link_icon: url => element("link", { rel: "icon", href: url("svg") }, document.head),
  link_preload: url => element("link", { rel: "preload", as: "image", href: url("svg") }, document.head),
  link_preload_fetch: url => element("link", { rel: "preload", as: "fetch", href: url("json"), crossorigin: "" }, document.head),
  link_modulepreload: url => element("link", { rel: "modulepreload", href: url("js") }, document.head),
  link_prefetch: url => element("link", { rel: "prefetch", href: url("html") }, document.head),
  css_import: url => style(`@import url(${url("css")});`),
  css_background: url => {
    style(`#x${url.id} { background: url(${url("svg")}); }`);
    element("div", { id: `x${url.id}` }).textContent = "x";
  },
  css_content: url => {
    style(`#y${url.id}::before { content: url(${url("svg")}); }`);
    element("div", { id: `y${url.id}` });
  },
  css_list: url => { element("li", { style: `list-style-image: url(${url("svg")})` }).textContent = "x"; },
  css_border: url => element("div", { style: `border: 9px solid; border-image: url(${url("svg")}) 1` }),
  css_mask: url => element("div", { style: `width: 9px; height: 9px; background: red; mask-image: url(${url("svg")})` }),
  css_shape: url => element("div", { style: `float: left; width: 9px; height: 9px; shape-outside: url(${url("svg")})` }),
  css_font: url => {
    style(`@font-face { font-family: f${url.id}; src: url(${url("font")}); }`);
    element("p", { style: `font-family: f${url.id}` }).textContent = "text";
  },
  font_face: url => new FontFace("f", `url(${url("font")})`).load().catch(() => {}),
  svg_image: url => svg("image", { href: url("svg"), width: 9, height: 9 }),
  svg_feimage: url => {
    const made = element("div");
    made.innerHTML = `<svg width=9 height=9><filter id=f${url.id}><feImage href="${url("svg")}"/></filter>` +
      `<rect width=9 height=9 filter="url(#f${url.id})"/></svg>`;
  },
  iframe: (url, run) => { frame({ src: url("html") }, run); },
  iframe_sandbox: (url, run) => { frame({ src: url("html"), sandbox: "allow-scripts allow-forms" }, run); },
  iframe_credentialless: (url, run) => { frame({ src: url("html"), credentialless: "" }, run); },
  frameset: url => {
    const made = element("iframe", { srcdoc: `<frameset><frame src="${url("html")}"></frameset>` });
    return made;
  },
  object: url => element("object", { data: url("html"), type: "text/html" }),
  object_svg: url => element("object", { data: url("svg"), type: "image/svg+xml" }),
  embed: url => element("embed", { src: url("html"), type: "text/html" }),
  video: url => element("video", { src: url("media"), preload: "auto" }),
  video_poster: url => element("video", { poster: url("svg") }),
  audio: url => element("audio", { src: url("media"), preload: "auto" }),
  audio_new: url => { new Audio(url("media")).preload = "auto"; },
  source: url => element("source", { src: url("media") }, element("video", { preload: "auto" })),
  track: url => {
    const made = element("video", { src: `${run_origin}/media`, crossorigin: "anonymous" });
    element("track", { src: url("vtt"), default: "", kind: "subtitles" }, made).track.mode = "showing";
  },
  canvas: (url, run) => {
    const made = element("img", { src: url("svg") });
    made.onload = () => {
      const canvas = element("canvas");
      canvas.getContext("2d").drawImage(made, 0, 0);
      try { run.read(`CANARY ${canvas.toDataURL()}`); } catch { /* tainted */ }
    };
  },
  ping: url => element("a", { href: "#", ping: url("html") }).click(),
  click: url => element("a", { href: url("html"), target: "_blank" }).click(),
  download: url => element("a", { href: url("html"), download: "x", target: "_blank" }).click(),

  // -- scripts
  fetch: (url, run) => call(url("json"), run),
  fetch_no_cors: (url, run) => call(url("json"), run, { mode: "no-cors" }),
  fetch_credentials: (url, run) => call(url("json"), run, { credentials: "include" }),
  fetch_no_cors_credentials: (url, run) => call(url("json"), run, { mode: "no-cors", credentials: "include" }),
  fetch_head: (url, run) => call(url("json"), run, { method: "HEAD" }),
  fetch_manual: (url, run) => call(url("json"), run, { redirect: "manual" }),
  fetch_no_referrer: (url, run) => call(url("json"), run, { mode: "no-cors", referrerPolicy: "no-referrer" }),
  fetch_keepalive: (url, run) => call(url("json"), run, { keepalive: true, mode: "no-cors", method: "POST", body: "x" }),
  fetch_post: (url, run) => call(url("json"), run, { method: "POST", body: "x" }),
  fetch_post_no_cors: (url, run) => call(url("json"), run, { method: "POST", body: "x", mode: "no-cors" }),
  fetch_post_form: (url, run) => call(url("json"), run, { method: "POST", body: new URLSearchParams({ a: "b" }), mode: "no-cors" }),
  fetch_post_multipart: (url, run) => {
    const body = new FormData();
    body.append("a", "b");
    return call(url("json"), run, { method: "POST", body, mode: "no-cors" });
  },
  fetch_post_blob: (url, run) => call(url("json"), run, { method: "POST", body: new Blob(["x"]), mode: "no-cors" }),
  fetch_post_json: (url, run) => call(url("json"), run, { method: "POST", body: "{}", headers: { "Content-Type": "application/json" } }),
  fetch_put: (url, run) => call(url("json"), run, { method: "PUT", body: "x" }),
  fetch_delete: (url, run) => call(url("json"), run, { method: "DELETE" }),
  fetch_field: (url, run) => call(url("json"), run, { headers: { "X-Api-Key": "x" } }),
  fetch_basic: (url, run) => call(url("json"), run, { headers: { Authorization: "Basic eDp5" } }),
  fetch_agent: (url, run) => call(url("json"), run, { headers: { "User-Agent": "curl/8" } }),
  fetch_agent_no_cors: (url, run) => call(url("json"), run, { headers: { "User-Agent": "curl/8" }, mode: "no-cors" }),
  xhr: (url, run) => xhr("GET", url("json"), run),
  xhr_post: (url, run) => xhr("POST", url("json"), run, "x"),
  xhr_upload: (url, run) => xhr("POST", url("json"), run, "x", made => { made.upload.onprogress = () => {}; }),
  xhr_credentials: (url, run) => xhr("GET", url("json"), run, null, made => { made.withCredentials = true; }),
  xhr_sync: (url, run) => { try { const made = new XMLHttpRequest(); made.open("GET", url("json"), false); made.send(); run.read(made.responseText); } catch { /* as it should be */ } },
  beacon: url => navigator.sendBeacon(url("json"), "x"),
  beacon_form: url => navigator.sendBeacon(url("json"), new URLSearchParams({ a: "b" })),
  event_source: (url, run) => { new EventSource(url("sse")).onmessage = message => run.read(message.data); },
  event_source_credentials: (url, run) => {
    new EventSource(url("sse"), { withCredentials: true }).onmessage = message => run.read(message.data);
  },
  websocket: (url, run) => { new WebSocket(url("ws").replace(/^http/, "ws")).onmessage = message => run.read(message.data); },
  import_module: url => import(url("js")).catch(() => {}),
  worker_fetch: url => new Worker(`${run_origin}/worker.js?to=${encodeURIComponent(url("json"))}`),
  worker_import: url => new Worker(`${run_origin}/worker.js?import=${encodeURIComponent(url("js"))}`),
  worker_blob: url => new Worker(URL.createObjectURL(new Blob([`fetch(${JSON.stringify(url("json"))},{mode:"no-cors"})`]))),
  shared_worker: url => new SharedWorker(`${run_origin}/worker.js?to=${encodeURIComponent(url("json"))}`),
  service_worker: async url => {
    const scope = `/scope/${url.id}/`;
    const found = await navigator.serviceWorker.register(`/worker.js?to=${encodeURIComponent(url("json"))}`, { scope });
    await found.update().catch(() => {});
  },
  audio_worklet: url => new AudioContext().audioWorklet.addModule(url("js")).catch(() => {}),
  csp_report: url => { element("iframe", { src: `${run_origin}/reports?to=${encodeURIComponent(url("json"))}` }); },

  // -- forms
  form_get: url => { form(url("html")); },
  form_post: url => { form(url("html"), { method: "post" }); },
  form_multipart: url => { form(url("html"), { method: "post", enctype: "multipart/form-data" }); },
  form_text: url => { form(url("html"), { method: "post", enctype: "text/plain" }); },
  form_blank: url => { form(url("html"), { method: "post", target: "_blank" }); },
  form_get_blank: url => { form(url("html"), { target: "_blank" }); },
  form_button: url => {
    const made = form("#", { method: "post" }, false);
    element("button", { formaction: url("html") }, made).click();
  },

  // -- navigations
  open: (url, run) => {
    const opened = popup(url("html"));
    wait(1500).then(() => run.read(opened.document.body.innerText)).catch(() => {});
  },
  open_noopener: url => { popup(url("html"), "popup,noopener"); },
  open_location: url => { const made = popup("about:blank"); made.location = url("html"); },
  frame_location: url => { element("iframe").contentWindow.location = url("html"); },
  frame_refresh: url => element("iframe", { srcdoc: `<meta http-equiv=refresh content="0;url=${url("html")}">` }),
  open_refresh: url => { popup(`${run_origin}/refresh?to=${encodeURIComponent(url("html"))}`); },
  frame_javascript: url => { element("iframe", { src: `javascript:location=${JSON.stringify(url("html"))}` }); },

  // -- documents without an origin of their own
  sandboxed_fetch: url => element("iframe", { sandbox: "allow-scripts", srcdoc: inner(url("json"), "fetch(to).catch(()=>0)") }),
  sandboxed_post: url => element("iframe", { sandbox: "allow-scripts", srcdoc: inner(url("json"), "fetch(to,{method:'POST',body:'x',mode:'no-cors'})") }),
  sandboxed_form: url => element("iframe", {
    sandbox: "allow-scripts allow-forms",
    srcdoc: inner(url("html"), "const f=document.createElement('form');f.method='post';f.action=to;document.body.append(f);f.submit()"),
  }),
  srcdoc: url => element("iframe", { srcdoc: `<img src="${url("svg")}">` }),
  data_document: url => element("iframe", { src: `data:text/html,${encodeURIComponent(inner(url("json"), "fetch(to,{mode:'no-cors'})"))}` }),
  data_image: url => element("iframe", { src: `data:text/html,${encodeURIComponent(`<img src="${url("svg")}">`)}` }),
  blob_document: url => element("iframe", {
    src: URL.createObjectURL(new Blob([inner(url("json"), "fetch(to,{mode:'no-cors'})")], { type: "text/html" })),
  }),
  data_svg: url => element("object", { type: "image/svg+xml", data: `data:image/svg+xml,${encodeURIComponent(
    `<svg xmlns="${SVG}" width="9" height="9"><image href="${url("svg")}" width="9" height="9"/></svg>`)}` }),
};

// -- redirects by another server
for (const code of [301, 302, 303, 307, 308]) {
  WAYS[`redirect_${code}_img`] = url => element("img", { src: redirect(code, url("svg")) });
  WAYS[`redirect_${code}_post`] = (url, run) => call(redirect(code, url("json")), run, { method: "POST", body: "x", mode: "no-cors" });
  WAYS[`redirect_${code}_form`] = url => { form(redirect(code, url("html")), { method: "post" }); };
}
WAYS.redirect_script = url => element("script", { src: redirect(302, url("js")) });
WAYS.redirect_css = url => element("link", { rel: "stylesheet", href: redirect(302, url("css")) }, document.head);
WAYS.redirect_iframe = (url, run) => { frame({ src: redirect(302, url("html")) }, run); };
WAYS.redirect_open = url => { popup(redirect(302, url("html"))); };
WAYS.redirect_fetch = (url, run) => call(redirect(302, url("json")), run);
WAYS.redirect_refresh = url => element("iframe", { src: `${run_origin}/refresh?header=1&to=${encodeURIComponent(url("html"))}` });
