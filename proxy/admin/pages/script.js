"use strict";
// Keeps a page up to date: counts down each second, and puts the pages from the server (live.py) in its place.
(() => {
  const { feed, csrf } = document.body.dataset;
  const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const RETRY = 30000; // ms, after a response that is no stream: EventSource itself gives up then
  const clock = () => Date.now() / 1000;
  let ahead = Number(document.querySelector("main").dataset.now) - clock(); // seconds, the server's clock
  let source = null, timer = 0, isOver = false;

  const relative = (at, now) => {
    const distance = Math.abs(at - now);
    const [size, unit] = UNITS.find(([seconds]) => distance >= seconds) || [1, "s"];
    const amount = `${Math.floor(distance / size)} ${unit}`;
    return at >= now ? `in ${amount}` : `${amount} ago`;
  };

  const say = (node, text) => { if (node && node.textContent !== text) node.textContent = text; };

  const tick = () => {
    const now = clock() + ahead;
    for (const time of document.querySelectorAll("time[data-at]")) {
      const at = Number(time.dataset.at);
      say(time, (at < now ? time.dataset.past || "" : "") + relative(at, now));
    }
    for (const bar of document.querySelectorAll("svg[data-to]")) {
      const [from, to] = [Number(bar.dataset.from), Number(bar.dataset.to)];
      const left = Math.max(0, Math.min(100, 100 * (to - now) / (to - from)));
      bar.firstElementChild.setAttribute("width", left.toFixed(1));
    }
  };

  // Make `old` equal to `fresh`. Elements stay where possible, and with them the focus and typed text.
  const update = (old, fresh) => {
    if (old.isEqualNode(fresh)) return;
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const known = new Map([...old.children].filter((each) => each.id).map((each) => [each.id, each]));
    let at = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      let same = next.id ? known.get(next.id) : null;
      if (!next.id && at && !at.id && at.nodeName === next.nodeName) same = at;
      if (!same || same.nodeName !== next.nodeName) {
        old.insertBefore(next, at);
        continue;
      }
      if (same === at) at = at.nextSibling;
      else old.insertBefore(same, at);
      if (same.nodeType === Node.ELEMENT_NODE) update(same, next);
      else say(same, next.textContent);
    }
    while (at) {
      const after = at.nextSibling;
      at.remove();
      at = after;
    }
  };

  const show = (html) => {
    const fresh = new DOMParser().parseFromString(html, "text/html").querySelector("main");
    const focused = document.activeElement, row = focused && focused.closest("[id^='row-']");
    for (const field of fresh.querySelectorAll("input[name=csrf]")) {
      if (!field.value) field.setAttribute("value", csrf);
    }
    update(document.querySelector("main"), fresh);
    const { title, icon } = fresh.dataset;
    if (title) document.title = title;
    if (icon) document.querySelector("link[rel=icon]").href = icon;
    tick();
    if (!focused || focused === document.activeElement || focused === document.body) return;
    const there = row && document.getElementById(row.id);
    const next = focused.isConnected ? focused : there && there.querySelector("a, button, input:not([type=hidden])");
    if (next) next.focus({ preventScroll: true });
  };

  const state = (text) => say(document.getElementById("live"), text);

  const stop = () => {
    clearTimeout(timer);
    if (source) source.close();
    source = null;
  };

  // A worker that another program has left on this origin would see the feed: it is removed.
  const isAlone = async () => {
    const workers = navigator.serviceWorker;
    if (!workers) return true;
    for (const each of await workers.getRegistrations()) await each.unregister();
    return !workers.controller;
  };

  const start = () => {
    stop();
    if (document.hidden || isOver) return;
    source = new EventSource(feed);
    source.onopen = () => state("live");
    source.onerror = () => {
      state("connection lost, trying again");
      if (source && source.readyState === EventSource.CLOSED) timer = setTimeout(start, RETRY);
    };
    source.addEventListener("page", ({ data }) => {
      const end = data.indexOf("\n");
      ahead = Number(data.slice(0, end)) - clock();
      show(data.slice(end + 1));
    });
    source.addEventListener("end", ({ data }) => {
      stop();
      state("");
      isOver = true;
      show(data);
    });
  };

  setInterval(tick, 1000);
  if (!feed || !window.EventSource) return;
  isAlone().then((alone) => {
    if (!alone) return state("not live: reload the page");
    document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
    addEventListener("pagehide", stop);
    addEventListener("pageshow", ({ persisted }) => { if (persisted) start(); });
    start();
  }, () => state("not live: reload the page"));
})();
